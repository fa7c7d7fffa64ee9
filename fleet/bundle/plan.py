"""What travels in a bundle and in which volume. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.bundle.have import Have
from fleet.bundle.manifest import LAYOUT, MAX_VOLUMES, Absent, AbsentFile, Entry, model_entry_path
from fleet.errors import UsageError
from fleet.image import docker_archive, reference
from fleet.image.layout import OCI_INDEX, Blob, LayoutImage
from fleet.models.content import File
from fleet.report.units import size

RESERVE = 1 << 20  # bytes of each volume for its own VOLUME.json and the slack of file systems
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Carried:
    """One image to carry, as `name` (NAME:RELEASE), for these hosts."""

    name: str
    image: LayoutImage
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Travel:
    """The blobs that travel, each with an image whose layout has it, and the layers that stay away."""

    blobs: tuple[tuple[Blob, LayoutImage], ...]
    absent: tuple[Absent, ...]


def travel(carried: Sequence[Carried], have: Have | None) -> Travel:
    """Every blob once. Manifests and configs always travel, for they are small and tell what is missing."""
    blobs: dict[str, tuple[Blob, LayoutImage]] = {}
    absent: dict[str, Absent] = {}
    for one in carried:
        image = one.image
        for blob in (image.manifest, image.config):
            blobs[blob.digest] = blob, image
        for index, (layer, diff_id) in enumerate(zip(image.layers, image.diff_ids, strict=True)):
            held = have.holders(layer.digest, image.diff_ids, index, one.hosts) if have else ()
            if held:
                absent[layer.digest] = Absent(layer.digest, layer.size, diff_id, held)
            else:
                blobs[layer.digest] = layer, image
    left = {digest: one for digest, one in absent.items() if digest not in blobs}
    return Travel(tuple(blobs[digest] for digest in sorted(blobs)), tuple(left[digest] for digest in sorted(left)))


def kept_files(
    entries: Iterable[Entry], models: Mapping[str, Sequence[str]], have: Have | None
) -> tuple[AbsentFile, ...]:
    """The files of models that stay away, because every host that serves the model has them; `models` go with their hosts."""
    found = []
    for entry in entries if have else ():
        for model, hosts in models.items():
            inner = entry.path.removeprefix(model_entry_path(model, ""))
            held = have.keepers(model, File(inner, entry.size, entry.sha256), hosts) if have else ()
            if inner != entry.path and held:
                found.append(AbsentFile(entry.path, entry.size, entry.sha256, held))
    return tuple(sorted(found))


def documents(carried: Sequence[Carried]) -> Mapping[str, bytes]:
    """The layout's own files: for skopeo and containerd by index.json, for Docker's classic store by manifest.json."""
    manifests, archives = [], []
    for one in carried:
        full = reference.parse(one.name)
        manifests.append(
            {
                "mediaType": one.image.manifest.media_type,
                "digest": one.image.manifest.digest,
                "size": one.image.manifest.size,
                "annotations": {
                    "io.containerd.image.name": f"{full.name}:{full.tag_or_latest}",
                    "org.opencontainers.image.ref.name": one.name,
                },
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        )
        archives += json.loads(docker_archive.manifest_json(one.image, one.name))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return {
        f"{LAYOUT}/oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        f"{LAYOUT}/index.json": json.dumps(index).encode(),
        f"{LAYOUT}/manifest.json": json.dumps(archives).encode(),
    }


def split(entries: Iterable[Entry], volume_size: int) -> tuple[Entry, ...]:
    """Give every file its volume: weights and blobs come last, so that volume 1 tells about all and has the whole tool,
    which is installed from one directory. 0 = do not split.

    Raises UsageError naming a file that is bigger than a volume.
    """
    ordered = sorted(entries, key=lambda one: (one.path.startswith((f"{LAYOUT}/blobs/", "models/")), one.path))
    if not volume_size:
        return tuple(replace(one, volume=1) for one in ordered)
    # MANIFEST.json lies in every volume, and is about as long as its files' names and digests.
    room = volume_size - RESERVE - sum(len(one.path) + 200 for one in ordered)
    biggest = max(ordered, key=lambda one: one.size, default=None)
    if biggest is not None and biggest.size > room:
        least = biggest.size + volume_size - room
        raise UsageError(
            f"--volume-size {size(volume_size)}: {biggest.path} alone has {size(biggest.size)}",
            hint=f"a file is never cut: at least --volume-size {-(-least // (1 << 20))}M",
        )
    free: list[int] = []
    placed = []
    for one in ordered:
        number = next((at for at, left in enumerate(free) if one.size <= left), len(free))
        if number == len(free):
            free.append(room)
        free[number] -= one.size
        placed.append(replace(one, volume=number + 1))
    if len(free) > MAX_VOLUMES:
        raise UsageError(f"--volume-size {size(volume_size)} makes {len(free)} volumes, more than {MAX_VOLUMES}")
    return tuple(placed)


def volume_bytes(text: str) -> int:
    """`32G`, `700M`: binary units; 0 for an empty text. Raises UsageError."""
    if not text:
        return 0
    number, unit = (text[:-1], _UNITS[text[-1].upper()]) if text[-1].upper() in _UNITS else (text, 1)
    if not number.isdigit() or not int(number):
        raise UsageError(f"--volume-size {text!r} is no size", hint="for example 700M or 32G")
    return int(number) * unit
