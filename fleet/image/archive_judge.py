"""Which image of a tarball is meant, told by its JSON documents. Pure; whatever they hold, it ends in words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.image.layout import INDEXES, OCI_MANIFEST, PLATFORM, pick_platform

SMALL = 4 << 20  # bytes; the JSON documents of an archive are far below
TOP = ("oci-layout", "index.json", "manifest.json")
ATTESTATION = "vnd.docker.reference.type"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_DEPTH = 4  # an index in an index is common, more is not
_DAMAGED = "bring it again; compare checksums"


@dataclass(frozen=True)
class Archive:
    """One image of a file. `kind` is skopeo's word: `oci-archive` or `docker-archive`. `names` are what it is called.

    `descriptor` is the manifest's in an OCI archive; `chosen`, such as `@0`, the image's place in a docker-archive.
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    descriptor: Mapping[str, Any] = field(default_factory=dict)
    chosen: str = ""


def judge(path: Path, documents: Mapping[str, bytes], members: frozenset[str]) -> tuple[Archive, ...]:
    """Every kind of archive that has these members, the better one first; `documents` are its small JSON files.

    An OCI layout comes first: our own archives are both, and only as OCI do their digests hold. What `docker save`
    since 25 writes is both as well, but may name a manifest that it does not carry. Raises FleetError.
    """
    found: list[Archive] = []
    errors: list[FleetError] = []
    for needs, read in (({"oci-layout", "index.json"}, _oci), ({"manifest.json"}, _docker)):
        if needs <= documents.keys():
            try:
                found.append(read(path, documents, members))
            except FleetError as error:
                errors.append(error)
    if found:
        return tuple(found)
    if errors:
        raise errors[-1]  # docker-archive's where there are both: it has names for what it holds
    raise FleetError(
        f"archive {path} is neither a docker-archive nor an OCI layout",
        hint="made by `docker save` or `skopeo copy … oci-archive:FILE`",
    )


def _oci(path: Path, documents: Mapping[str, bytes], members: frozenset[str]) -> Archive:
    index = _json(path, "index.json", documents["index.json"])
    there = list(_manifests(path, index, documents, members, _DEPTH))
    if not there:
        raise FleetError(f"archive {path} is damaged: no image that its index.json names is in it", hint=_DAMAGED)
    fitting = {str(entry["digest"]): entry for entry in pick_platform(there)}
    names = {digest: [name for one in there if one["digest"] == digest for name in one["names"]] for digest in fitting}
    if len(fitting) != 1:
        raise _not_one(path, names, {"/".join(_said(one["platform"])) for one in there})
    digest, entry = fitting.popitem()
    for wanted in (entry["config"], *entry["layers"]):
        if wanted not in members:
            raise FleetError(f"archive {path} is damaged: {wanted} is missing in it", hint=_DAMAGED)
    descriptor = {"mediaType": str(entry.get("mediaType") or OCI_MANIFEST), "digest": digest, "size": entry["size"]}
    return Archive(path, "oci-archive", tuple(dict.fromkeys(names[digest])), descriptor)


def _manifests(
    path: Path,
    index: Any,
    documents: Mapping[str, bytes],
    members: frozenset[str],
    depth: int,
    above: tuple[str, ...] = (),
) -> Iterator[dict[str, Any]]:
    """The images below an index that the archive carries, each with its platform and the names that lead to it."""
    for entry in _list(_mapping(index).get("manifests")):
        blob, notes = _blob(_mapping(entry).get("digest")), _mapping(_mapping(entry).get("annotations"))
        if blob not in members or ATTESTATION in notes:
            continue
        names = (*above, *(str(notes[key]) for key in _NAMES if notes.get(key)))[:1]
        inner = _json(path, blob, documents[blob]) if blob in documents else {}
        kind = _mapping(entry).get("mediaType") or _mapping(inner).get("mediaType")
        if kind in INDEXES or "manifests" in _mapping(inner):
            if depth:
                yield from _manifests(path, inner, documents, members, depth - 1, names)
            continue
        config = _blob(_mapping(_mapping(inner).get("config")).get("digest"))
        told = _mapping(entry).get("platform")
        if not _mapping(told) and config in documents:
            document = _mapping(_json(path, config, documents[config]))
            told = {"os": document.get("os"), "architecture": document.get("architecture")}
        layers = [_blob(_mapping(layer).get("digest")) for layer in _list(_mapping(inner).get("layers"))]
        yield {
            **_mapping(entry),
            "digest": str(entry["digest"]),
            "size": len(documents.get(blob, b"")),
            "platform": _mapping(told),
            "names": names,
            "config": config,
            "layers": layers,
        }


def _docker(path: Path, documents: Mapping[str, bytes], members: frozenset[str]) -> Archive:
    images = _json(path, "manifest.json", documents["manifest.json"])
    entries = [entry for entry in _list(images) if isinstance(entry, dict)]
    if not entries:
        raise FleetError(f"archive {path} is damaged: its manifest.json lists no image", hint=_DAMAGED)
    by_config: dict[str, dict[str, Any]] = {}
    tags: dict[str, list[str]] = {}
    for number, entry in enumerate(entries):
        config = str(entry.get("Config"))
        said = _mapping(_json(path, config, documents[config])) if config in documents else {}
        platform = {"os": said.get("os"), "architecture": said.get("architecture")}
        by_config.setdefault(config, {**entry, "platform": platform, "place": number})
        tags.setdefault(config, []).extend(tag for tag in _list(entry.get("RepoTags")) if isinstance(tag, str))
    fitting = pick_platform(tuple(by_config.values()))
    if len(fitting) != 1:
        chosen = {str(entry["Config"]): tags[str(entry["Config"])] for entry in fitting}
        raise _not_one(path, chosen, {"/".join(_said(one["platform"])) for one in by_config.values()})
    image = fitting[0]
    for wanted in (str(image.get("Config")), *map(str, _list(image.get("Layers")))):
        if wanted.removeprefix("./") not in members:
            raise FleetError(f"archive {path} is damaged: {wanted} is missing in it", hint=_DAMAGED)
    names = tuple(dict.fromkeys(tags[str(image["Config"])]))
    return Archive(path, "docker-archive", names, chosen=f"@{image['place']}")


def _not_one(path: Path, fitting: Mapping[str, list[str]], platforms: set[str]) -> FleetError:
    """No image for our hosts, or several."""
    ours = "/".join(PLATFORM)
    if not fitting:
        held = f"only {', '.join(sorted(platforms))}"
        return FleetError(f"archive {path} holds no image for {ours}, {held}", hint=f"bring an image for {ours}")
    said = ", ".join(" = ".join(names) or key for key, names in fitting.items())
    return FleetError(f"archive {path} holds {len(fitting)} images: {said}", hint="docker save one of them by itself")


def _said(platform: Mapping[str, Any]) -> tuple[str, str]:
    return str(platform.get("os") or PLATFORM[0]), str(platform.get("architecture") or PLATFORM[1])


def _blob(digest: Any) -> str:
    return f"blobs/{str(digest).replace(':', '/')}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(path: Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"archive {path} is damaged: its {name} is no JSON", hint=_DAMAGED) from error
