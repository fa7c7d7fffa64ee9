"""What a relay is: steps, the registry's configuration and container, and what a host has of it already. Pure.

DIR/relay/                        0700, beside DIR/sideload; DIR is `staging_dir`
    store/                        the blobs, in CNCF Distribution's own filesystem layout; it stays
    run/                          while it serves: configuration, certificate with key, hash of the password
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet.delivery.scripts import MARK
from fleet.delivery.send import Parcel, Sender, Sent
from fleet.delivery.staging import Staging
from fleet.inventory.settings import Registry

CONTAINER = "fleet-relay"
LABEL = "io.fleet.relay"
SCHEMA = "1"
MODELS = "models"  # the repository that has the files of all models
USER = "fleet"
_HEX = re.compile(r"[0-9a-f]{64}$")


@dataclass(frozen=True)
class Ground:
    """What a host has of relays. `blobs` are its store's (digest -> bytes); `trusts` registry -> sha256 of its CA file.

    `left`: a relay's container or what it ran with is there, from an earlier run.
    """

    staging: Staging = field(default_factory=Staging)
    blobs: Mapping[str, int] = field(default_factory=dict)
    trusts: Mapping[str, str] = field(default_factory=dict)
    left: bool = False

    @property
    def directory(self) -> str:
        return self.staging.directory


@dataclass(frozen=True)
class Fill:
    """The blobs of an image that the relay's store lacks are brought there; `size` is in bytes to send, at most."""

    name: str
    size: int
    why: str
    way: str
    straight: bool = False  # the relay gets them from the builder itself
    changes = True

    @property
    def what(self) -> str:
        return f"fill the relay's store with {self.name}"


class Courier(Protocol):
    """Brings a host parcels that do not lie here. `done` hears of those that the store of a relay has."""

    def bring(self, sender: Sender, path: str, parcel: Parcel, have: int, sent: Sent) -> None:
        """Complete the blob at `path` on the host, of whose part `have` bytes came before. Raises HostError, LinkError,
        AnotherWayError.
        """

    def blame(self, sender: Sender, directory: str, parcel: Parcel) -> None:
        """One of what was brought was wrong: forget what of this one lies in `directory` of the host as a part, and here."""

    def done(self, parcels: tuple[Parcel, ...]) -> None: ...


@dataclass(frozen=True)
class FillModel:
    """The same with files of a model. `key` (hex) is what the staging directory knows them by.

    Without a `courier` the files lie here and are sent.
    """

    name: str
    key: str
    parcels: tuple[Parcel, ...]
    size: int
    why: str
    way: str
    courier: Courier | None = None
    changes = True

    @property
    def what(self) -> str:
        return f"fill the relay's store with model {self.name}"


@dataclass(frozen=True)
class StartRelay:
    """Run the registry over the store. `image` is its local name on the host."""

    registry: str
    image: str
    keep: bool
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"start relay {self.registry}"


@dataclass(frozen=True)
class StopRelay:
    """Remove the registry's container, its key and its password; the store stays."""

    directory: str
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"remove container {CONTAINER}"


@dataclass(frozen=True)
class Distrust:
    """Take the site's CA out of certs.d again; `fingerprint` tells it from anybody else's file."""

    registry: str
    fingerprint: str
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"remove /etc/docker/certs.d/{self.registry}"


@dataclass(frozen=True)
class Access:
    """What a relay runs with and the others get in by. `files` go into its `run` directory."""

    registry: Registry
    files: Mapping[str, bytes] = field(repr=False, default_factory=dict)


def location(address: str, port: int) -> str:
    """As it stands before an image's name and as a directory in certs.d."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def stored(directory: str, sha256: str) -> str:
    """Where a relay's store has a blob, below its staging directory."""
    return f"{directory}/relay/store/docker/registry/v2/blobs/sha256/{sha256[:2]}/{sha256}/data"


def configuration(place: str, secret: str) -> bytes:
    """Distribution's config.yml, as JSON, which is YAML. (distribution.github.io, "Configuring a registry")

    Nobody writes through it: it is read-only, and what purges uploads is off, for the store is mounted read-only.
    """
    document = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": "/var/lib/registry"},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": True}},
        },
        "http": {
            "addr": place,
            "secret": secret,
            "tls": {"certificate": "/relay/server.crt", "key": "/relay/server.key"},
        },
        "auth": {"htpasswd": {"realm": "fleet", "path": "/relay/htpasswd"}},
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def container(step: StartRelay, directory: str) -> dict[str, Any]:
    """The body of the Engine API's `POST /containers/create`. The command is the image's own entry point's."""
    mounts = [
        {"Type": "bind", "Source": f"{directory}/relay/{name}", "Target": target, "ReadOnly": True}
        for name, target in (("run", "/relay"), ("store", "/var/lib/registry"))
    ]
    return {
        "Image": step.image,
        "Cmd": ["serve", "/relay/config.yml"],
        "Env": ["OTEL_TRACES_EXPORTER=none"],  # version 3 sends traces to localhost otherwise
        "Labels": {LABEL: SCHEMA, f"{LABEL}.registry": step.registry},
        "HostConfig": {
            "NetworkMode": "host",
            "Mounts": mounts,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["DAC_OVERRIDE", "NET_BIND_SERVICE"],  # the directories are the login user's alone
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "unless-stopped" if step.keep else "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
        },
    }


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files of 0600 as a tar, which travels by standard input."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def parse(lines: Iterable[str], staging: Staging, *, left: bool) -> Ground:
    """What GROUND printed; lines that are not its own are passed over."""
    blobs: dict[str, int] = {}
    trusts: dict[str, str] = {}
    for line in lines:
        mark, _, rest = line.partition(" ")
        match rest.split(" ", 2) if mark == MARK else ():
            case ("stored", size, value) if size.isdecimal() and _HEX.match(value):
                blobs[f"sha256:{value}"] = int(size)
            case ("trust", value, registry) if _HEX.match(value):
                trusts[registry] = value
            case ("run",):
                left = True
    return Ground(staging, blobs, trusts, left)
