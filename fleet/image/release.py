"""A release: one image, named by what survives every way and store, and what it was made from. JSON in and out."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fleet.errors import FleetError, UsageError
from fleet.image.reference import Reference
from fleet.image.reference import parse as parse_reference

SCHEMA = 1
MAPPINGS = ("env", "labels", "args", "versions")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Release:
    """One linux/amd64 image.

    The manifest digest holds in registries, the config digest is the image ID of classic stores, and the diffIDs hold
    everywhere. `source` tells the kind: source, prebuilt, archive. `dropped` names what Docker's format had and OCI's
    has not (HEALTHCHECK). Sizes are bytes of the compressed layers, from the bottom up. `args` are the build arguments
    (`base.NAME` those of a base of one's own), `versions` what the image's own /app/versions.txt says of its packages.
    """

    name: str  # vllm-rocm, without registry and tag
    manifest_digest: str
    config_digest: str
    diff_ids: tuple[str, ...]
    layer_digests: tuple[str, ...]
    layer_sizes: tuple[int, ...]
    source: str
    source_reference: str = ""  # repository and ref, the prebuilt reference, or the archive's file name
    source_digest: str = ""  # what it was called where it came from: the manifest's digest, an index's, a file's
    content_key: str = ""
    created: str = ""  # RFC 3339, as the image says
    vllm_version: str = ""
    vllm_commit: str = ""
    base: str = ""
    base_digest: str = ""
    gfx: tuple[str, ...] = ()
    rocm: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the manifest digest."""
        return self.manifest_digest.removeprefix("sha256:")[:12]

    @property
    def local_name(self) -> str:
        """The name that containers are created from: `NAME:RELEASE`."""
        return f"{self.name}:{self.id}"

    @property
    def size(self) -> int:
        return sum(dict(zip(self.layer_digests, self.layer_sizes, strict=True)).values())

    def in_registry(self, host: str) -> Reference:
        """The reference that a host pulls: where a prebuilt image lies in that registry anyway, else under our name."""
        if self.source == "prebuilt" and self.source_digest == self.manifest_digest:
            there = parse_reference(self.source_reference)
            if there.domain == host:
                return there.pinned(self.manifest_digest)
        return parse_reference(f"{host}/{self.name}").pinned(self.manifest_digest)

    def is_ours_in(self, host: str) -> bool:
        """Whether it lies in that registry because this tool put it there."""
        return self.in_registry(host).path == self.name


def to_json(release: Release) -> dict[str, Any]:
    """The release as JSON-able data with its schema number."""
    plain = {item.name: getattr(release, item.name) for item in fields(release)}
    plain.update({name: dict(plain[name]) for name in MAPPINGS})
    # An empty one is left out, so that a record from before there were any stays the same to the byte.
    plain = {name: value for name, value in plain.items() if value or name not in {"args", "versions"}}
    return {
        "schema": SCHEMA,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()},
    }


def dumps(release: Release) -> str:
    return json.dumps(to_json(release), indent=2, sort_keys=True) + "\n"


def from_json(data: Any, where: str) -> Release:
    """Read a record; `where` names it in errors. Raises FleetError for another schema or a damaged record."""
    if not isinstance(data, dict) or "schema" not in data:
        raise FleetError(f"{where}: is no release record")
    if data["schema"] != SCHEMA:
        raise FleetError(
            f"{where}: release record of schema {data['schema']}, and this fleet reads {SCHEMA}", hint="upgrade fleet"
        )
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "schema"
    }
    known = {item.name for item in fields(Release)}
    try:
        release = Release(**{key: value for key, value in values.items() if key in known})
    except TypeError as error:
        raise FleetError(f"{where}: release record is damaged: {error}") from error
    _judge(release, where)
    return release


def loads(text: str | bytes, where: str) -> Release:
    try:
        return from_json(json.loads(text), where)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{where}: release record is no JSON: {error}") from error


def _judge(release: Release, where: str) -> None:
    """A record decides what runs on a fleet, so every field must have the type that it has in the class."""
    for name, value in asdict(release).items():
        if name in MAPPINGS:
            fine = isinstance(value, Mapping) and all(isinstance(word, str) for word in value.values())
        elif name == "layer_sizes":
            fine = isinstance(value, tuple) and all(type(size) is int and size >= 0 for size in value)
        elif name in {"diff_ids", "layer_digests", "gfx", "entrypoint", "cmd", "dropped"}:
            fine = isinstance(value, tuple) and all(isinstance(word, str) for word in value)
        else:
            fine = isinstance(value, str) and value.isprintable()  # they come to terminals
        if not fine:
            raise FleetError(f"{where}: release record is damaged: {name} is {value!r}")
    for digest in (release.manifest_digest, release.config_digest, *release.diff_ids, *release.layer_digests):
        if not _DIGEST.fullmatch(digest):
            raise FleetError(f"{where}: release record is damaged: {digest[:80]!r} is no sha256 digest")
    try:
        parse_reference(release.local_name)
    except UsageError as error:
        raise FleetError(f"{where}: release record is damaged: {error.message}") from error
    if not len(release.diff_ids) == len(release.layer_digests) == len(release.layer_sizes):
        raise FleetError(f"{where}: release record is damaged: its lists of layers differ in length")
