"""Collecting a registry's garbage: what the look at its host says, whether and how it can be done there. Pure.

What was deleted in a registry takes room until CNCF Distribution's own `garbage-collect` has run, and nobody may push
meanwhile: a layer that no manifest names yet would go. So the registry runs read-only until then, by its own
configuration (storage.maintenance.readonly), and is started twice.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import yaml

from fleet.inventory.model import Inventory
from fleet.inventory.settings import Collecting
from fleet.prune.facts import Room
from fleet.report.units import size

OURS = "io.fleet."  # relays have labels; they are gone when their deploy is
_ROOT = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"
_CACHE = ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTORPROVIDER")


@dataclass(frozen=True)
class Running:
    """A process `registry serve CONFIG`. `text` is the configuration's, `inspected` what docker says of its container."""

    pid: int
    words: tuple[str, ...] = ()
    program: str = ""
    unit: str = ""  # of systemd
    guarded: bool = False  # the configuration is a file that root alone may write
    here: bool = False  # it sees the same file at that path as the host does
    text: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    inspected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> str:
        """The configuration's path as the process sees it."""
        behind = self.words[self.words.index("serve") + 1 :] if "serve" in self.words else ()
        return next(iter(behind), "") or self.variables.get("REGISTRY_CONFIGURATION_PATH", "")

    @property
    def document(self) -> dict[str, Any]:
        """Empty for what is no configuration of a registry."""
        try:
            found = yaml.safe_load(self.text)
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("storage"), dict) else {}

    @property
    def name(self) -> str:
        """For people: `container registry`, `service docker-registry`, or the program."""
        if self.inspected:
            return f"container {str(self.inspected.get('Name', '')).lstrip('/')}"
        return f"service {self.unit}" if self.unit else self.program


@dataclass(frozen=True)
class RegistryHost:
    """A host on which a registry may run, as the look says. `left` are configurations of a collection that was cut off."""

    root: bool = False
    systemd: bool = False
    init: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()
    running: tuple[Running, ...] = ()


@dataclass(frozen=True)
class Way:
    """How it is done there: what collect.sh takes. `storage` is the directory, empty where it is no directory."""

    running: Running
    path: str  # of the configuration on the host; empty: in the container's own layer
    stop: tuple[str, ...]
    start: tuple[str, ...]
    program: tuple[str, ...]
    storage: str
    port: int

    @property
    def before(self) -> str:
        """Where the configuration lies while another one is in its place."""
        container = str(self.running.inspected.get("Name", ""))
        return f"/var/lib/fleet/registry-{sha256(f'{container}{self.running.config}'.encode()).hexdigest()[:12]}.before"

    @property
    def arguments(self) -> tuple[str, ...]:
        running = self.running
        container = str(running.inspected.get("Id", ""))
        return (
            str(running.pid), running.config, self.path, container, container or running.unit,
            f"{self.port:04X}" if self.port else "", self.storage, self.before,
            shlex.join(self.stop), shlex.join(self.start), shlex.join(self.program),
        )  # fmt: skip


@dataclass(frozen=True)
class Garbage:
    """`blobs` are the sizes of those that would go, `room` is the storage's. `busy`: somebody pushes."""

    blobs: tuple[int, ...] = ()
    room: Room = field(default_factory=Room)
    busy: bool = False


@dataclass(frozen=True)
class Collect:
    """Have a registry collect its garbage on its host, read-only meanwhile. `size` in bytes."""

    registry: str
    host: str
    way: Way
    size: int
    why: str

    @property
    def what(self) -> str:
        return (
            f"collect the garbage of registry {self.registry} on {self.host}, which refuses pushes meanwhile and is "
            f"started anew before and after ({shlex.join(self.way.start)})"
        )


def host_of(inventory: Inventory, registry: str) -> str:
    """The inventory's host that has the registry's name or address; "" for none."""
    address = registry.rpartition(":")[0] if registry.rpartition(":")[2].isdecimal() else registry
    wanted = address.strip("[]").lower()
    for name, host in inventory.hosts.items():
        if wanted in (name.lower(), host.connection.address.strip("[]").lower()):
            return name
    return ""


def parse(text: str) -> RegistryHost:
    """What `look` of collect.sh printed."""
    seen: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("process "):
            break
        word, _, rest = line.partition(" ")
        seen.setdefault(word, []).append(rest)
    pieces = text[text.find("process ") :].split("\nprocess ") if "process " in text else []
    return RegistryHost(
        seen.get("uid") == ["0"],
        "systemd" in seen,
        frozenset(seen.get("init", ())),
        tuple(seen.get("left", ())),
        tuple(_running(piece.removeprefix("process ")) for piece in pieces),
    )


def _running(piece: str) -> Running:
    number, *lines = piece.splitlines()
    seen: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        seen.setdefault(word, []).append(rest)
    # A unit of the system, never one of a user's own: .../system.slice/docker-registry.service
    parts = [line.rpartition(":")[2].split("/") for line in seen.get("cgroup", ()) if ".service" in line]
    units = [names[-1] for names in parts if names[1:2] == ["system.slice"] and names[-1].endswith(".service")]
    return Running(
        int(number),
        tuple(seen.get("word", ())),
        next(iter(seen.get("program", ())), ""),
        "" if "container" in seen else next(iter(units), ""),
        "guarded" in seen,
        "here" in seen,
        "\n".join(seen.get("config", ())) + "\n",
        dict(one.split("=", 1) for one in seen.get("variable", ())),
        json.loads(seen["container"][0]) if "container" in seen else {},
    )


def choose(place: RegistryHost, said: Collecting) -> Way | str:
    """How the registry's garbage is collected there, or why that cannot be told."""
    if not place.root:
        return "that takes root on its host"
    others = [one for one in place.running if not any(name.startswith(OURS) for name in _labels(one))]
    found = [one for one in others if one.config == said.config] if said.config else others
    if len(found) != 1:
        names = ", ".join(f"{one.name} with {one.config}" for one in found)
        told = f"{len(found)} registries run there ({names}): set registry.collect.config" if found else ""
        return told or "no process `registry serve CONFIG` runs there"
    (running,) = found
    document = running.document
    if not document:
        return f"the configuration of {running.name}, {running.config or 'which it does not name'}, cannot be read"
    cache = document["storage"].get("cache")
    if "redis" in (*(cache.values() if isinstance(cache, dict) else ()), *map(running.variables.get, _CACHE)):
        return "its cache is in Redis, which would go on telling of what is gone"
    path = _on_host(running)
    if not running.inspected and not running.here:
        return f"{running.name} runs in a container, and not in one of Docker's"
    if path and not running.guarded:
        return f"{running.config} is a file that others than root may write"
    return _way(running, place, said, path)


def _way(running: Running, place: RegistryHost, said: Collecting, path: str) -> Way | str:
    stop: tuple[str, ...] = ()
    script = running.program.rpartition("/")[2]
    if said.restart:
        start = said.restart
    elif running.inspected:
        start = ("docker", "restart", str(running.inspected["Id"])[:12])
    elif running.unit and place.systemd:
        start = ("systemctl", "restart", running.unit)
    elif script in place.init and not place.systemd:
        # Debian's own script does not wait for the old process when it is told to restart, and then starts none.
        stop, start = ("service", script, "stop"), ("service", script, "start")
    else:
        return f"how {running.name} is started there is not known: set registry.collect.restart"
    program: tuple[str, ...] = (running.program, "garbage-collect", running.config)
    if running.inspected:
        before = running.words[: running.words.index("serve")]
        program = ("docker", "exec", str(running.inspected["Id"]), *before, *program[1:])
    return Way(running, path, stop, start, program, _storage(running), _port(running))


def _labels(running: Running) -> Iterable[str]:
    return ((running.inspected.get("Config") or {}).get("Labels") or {}).keys()


def _on_host(running: Running) -> str:
    """Where the configuration lies on the host; empty for one in a container's own layer."""
    if not running.inspected:
        return running.config
    for mount in running.inspected.get("Mounts") or ():
        inside, outside = str(mount.get("Destination", "")), str(mount.get("Source", ""))
        if running.config == inside or running.config.startswith(f"{inside.rstrip('/')}/"):
            return f"{outside}{running.config.removeprefix(inside.rstrip('/'))}"
    return ""


def _storage(running: Running) -> str:
    backend = running.document["storage"].get("filesystem")
    if backend is None and _ROOT not in running.variables:
        return ""
    said = backend.get("rootdirectory") if isinstance(backend, dict) else ""
    return running.variables.get(_ROOT) or str(said or "/var/lib/registry")


def _port(running: Running) -> int:
    http = running.document.get("http")
    port = str(http.get("addr") if isinstance(http, dict) else "").rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def read_only(document: Mapping[str, Any]) -> str:
    """The same configuration, with which the registry refuses what would change it."""
    storage = dict(document["storage"])
    maintenance = storage.get("maintenance")
    storage["maintenance"] = {**(maintenance if isinstance(maintenance, dict) else {}), "readonly": {"enabled": True}}
    return yaml.safe_dump({**document, "storage": storage}, sort_keys=False)


def parse_garbage(text: str) -> Garbage:
    """What `dry` of collect.sh printed."""
    lines = [line.split() for line in text.splitlines()]
    blobs = tuple(int(one[1]) for one in lines if one[0] == "blob")
    return Garbage(blobs, room_in(text, "room"), ["busy"] in lines)


def room_in(text: str, word: str) -> Room:
    """The storage, where a line `WORD KIB_USED KIB_FREE` tells of it."""
    found = re.search(rf"^{word} (\d+) (\d+)$", text, re.MULTILINE)
    return Room(int(found[1]) * 1024, int(found[2]) * 1024) if found else Room()


def plan_collect(
    registry: str, host: str, place: RegistryHost, way: Way, garbage: Garbage, soon: int
) -> tuple[Collect, ...]:
    """`soon` are bytes that deletions of today leave behind, in a plan that carried none of them out yet."""
    bytes_of = sum(garbage.blobs) + soon
    if way.before in place.left:
        why = f"a collection was cut off there, and the registry may still refuse pushes; {size(bytes_of)} are garbage"
    elif garbage.blobs or soon:
        why = f"{size(bytes_of)} there belong to no image" + (" once what is planned is deleted" if soon else "")
    else:
        return ()
    return (Collect(registry, host, way, bytes_of, why),)
