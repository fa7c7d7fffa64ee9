"""Whether a bundle's images are what its records say: records, manifests, configs and the layout's own files agree.

skopeo and `docker load` read `index.json` and `manifest.json` and no record, so these must name the same images.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.bundle.check import Bundle
from fleet.bundle.manifest import LAYOUT, blob_entry_path
from fleet.bundle.small import content
from fleet.errors import FleetError
from fleet.image import reference
from fleet.image.describe import Made, compose
from fleet.image.layout import DOCKER_MANIFEST, OCI_MANIFEST, Blob, LayoutImage, blob_path
from fleet.image.release import Release

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})  # what engines take an entry of index.json for


def disagreeing(bundle: Bundle, found: Sequence[Release]) -> tuple[str, ...]:
    """By name, releases whose record tells another image than their manifest and config, or that lack one of the two."""
    wrong = [problem for release in found for problem in _release(bundle, release)]
    return tuple(dict.fromkeys(wrong)) or tuple(_layout(bundle, found))


def _release(bundle: Bundle, release: Release) -> Iterator[str]:
    try:
        manifest, config = _document(bundle, release.manifest_digest), _document(bundle, release.config_digest)
        layers = [(str(one["digest"]), one["size"]) for one in manifest["layers"]]
        told = (manifest["config"]["digest"], [digest for digest, _ in layers], config["rootfs"]["diff_ids"])
        described = _described(bundle, release, config)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        yield f"{release.local_name}: its manifest or config cannot be read: {error}"
        return
    if told != (release.config_digest, list(release.layer_digests), list(release.diff_ids)):
        yield f"{release.local_name}: its record and its manifest {release.manifest_digest} differ"
        return
    for what in ("entrypoint", "cmd", "user", "env", "labels"):
        if getattr(described, what) != getattr(release, what):
            yield f"{release.local_name}: its record and its config {release.config_digest} differ in {what}"
    for (digest, size), recorded in zip(layers, release.layer_sizes, strict=True):
        entry = bundle.manifest.entry(blob_entry_path(digest))
        if len({size, recorded, entry.size if entry else size}) > 1:
            yield f"{release.local_name}: its record, its manifest and the bundle tell other sizes of layer {digest}"


def _described(bundle: Bundle, release: Release, config: Mapping[str, Any]) -> Release:
    blobs = (Blob("", release.manifest_digest, 0), Blob("", release.config_digest, 0))
    layers = tuple(Blob("", *one) for one in zip(release.layer_digests, release.layer_sizes, strict=True))
    image = LayoutImage(bundle.path / LAYOUT, *blobs, layers, release.diff_ids, config)
    return compose(image, release.name, Made(release.source, ""), {})


def _layout(bundle: Bundle, found: Sequence[Release]) -> Iterator[str]:
    """What is wrong with the files that others read. A release may have several names, one for each of its records."""
    names = {(one.manifest_digest, one.local_name) for one in found}
    archives = {
        (f"blobs/{one.config_digest.replace(':', '/')}", *(f"blobs/{d.replace(':', '/')}" for d in one.layer_digests))
        for one in found
    }
    tags = {reference.parse(one.local_name).familiar for one in found}
    try:
        index = _file(bundle, "index.json")["manifests"]
        images = _file(bundle, "manifest.json")
        said = [(one["digest"], one["annotations"]["org.opencontainers.image.ref.name"]) for one in index]
        sizes = [(str(one["digest"]), one["size"]) for one in index]
        kinds = {str(one["mediaType"]) for one in index}
        held = [(str(one["Config"]), *map(str, one["Layers"])) for one in images]
        tagged = {str(tag) for one in images for tag in one["RepoTags"]}
        version = _file(bundle, "oci-layout")["imageLayoutVersion"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        yield f"{bundle.path}: {LAYOUT}/ cannot be read as an OCI layout and as what docker save writes: {error}"
        return
    if {digest for digest, _ in said} != {digest for digest, _ in names} or not set(said) <= names:
        yield f"{bundle.path}: {LAYOUT}/index.json and the records name other images"
    elif not kinds <= MANIFESTS:
        yield f"{bundle.path}: {LAYOUT}/index.json names as an image what is none: {', '.join(sorted(kinds - MANIFESTS))}"
    elif any(size != _size(bundle, digest) for digest, size in sizes) or version != "1.0.0":
        yield f"{bundle.path}: {LAYOUT}/index.json is not as the blobs are"
    if set(held) != archives or not tagged <= tags or len(tagged) != len(held):
        yield f"{bundle.path}: {LAYOUT}/manifest.json and the records name other images"


def _size(bundle: Bundle, digest: str) -> int:
    entry = bundle.manifest.entry(blob_entry_path(digest))
    return entry.size if entry else -1


def _document(bundle: Bundle, digest: str) -> Any:
    blob_path(bundle.path, digest)  # or it is no digest
    return _json(bundle, blob_entry_path(digest), digest)


def _file(bundle: Bundle, name: str) -> Any:
    return _json(bundle, f"{LAYOUT}/{name}", f"{LAYOUT}/{name}")


def _json(bundle: Bundle, path: str, name: str) -> Any:
    entry = bundle.manifest.entry(path)
    if entry is None:
        raise ValueError(f"{name} is missing")
    try:
        return json.loads(content(bundle, entry))
    except FleetError as error:
        raise ValueError(error.message) from error
