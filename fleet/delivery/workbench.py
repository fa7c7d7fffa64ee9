"""The layout of an image that was built on a builder, made there, and the few kilobytes of it that a release is told by."""

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import layout as layouts
from fleet.image.describe import FILES, Made, compose, dropped_by_conversion
from fleet.image.image_files import Found
from fleet.image.layout import LayoutImage
from fleet.image.machine import Machine
from fleet.image.release import Release

# $1 directory to make the layout in, $2 tag of the image in the builder's engine, $3 TELL.
MAKE = r"""
umask 077
work=$1
export TMPDIR=$work
# What the image shows in the end is what counts, so it is asked as a container. Not by `docker export`: Docker 26.1 never
# lets go of the layers of a container that was exported, and neither prune nor a restart of the engine finds them.
mkdir "$work/told"
docker run --rm --network none --entrypoint python3 "$2" -c "$3" 2>/dev/null \
  | tar -x -C "$work/told" --no-same-owner 2>/dev/null
docker save -o "$work/image.tar" "$2" || exit 1
skopeo copy "docker-archive:$work/image.tar" "oci:$work/layout:image" || exit 1
skopeo inspect --config --raw "docker-archive:$work/image.tar" > "$work/before.json" || exit 1
rm -f -- "$work/image.tar"
"""
# Run in the image: the files that tell of it, as a tar. An image without Python tells nothing.
TELL = """
import glob, os, sys, tarfile
found = ["/app/versions.txt", *glob.glob("/opt/rocm*/.info/version")]
for place in sys.path:
    found += glob.glob(place + "/vllm-*.dist-info/METADATA")
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as tar:
    for path in filter(os.path.isfile, found):
        tar.add(path)
"""
LARGEST = 1 << 20  # bytes of a file that are read

FAILURES = (FleetError, ValueError, KeyError, tarfile.TarError)  # of what is made or read there


@contextmanager
def made_layout(machine: Machine, tag: str, on_line: Callable[[str], None]) -> Iterator[str]:
    """A directory there with `layout`, `before.json` and `told`, gone afterwards unless it was moved. Raises FleetError."""
    lines: list[str] = []
    on_line(f"making the layout of {tag} on {machine.name}")
    with machine.bench() as work:
        if machine.stream(("sh", "-c", MAKE, "sh", work, tag, TELL), lines.append):
            said = lines[-1] if lines else "without a word"
            raise FleetError(f"the layout could not be made on {machine.name}: {said}")
        yield work


def fetch_small(machine: Machine, layout: str, folder: Path) -> LayoutImage:
    """Index, manifest and config of a layout there, into `folder` here, checked by their digests; its layers stay there.

    Raises one of FAILURES.
    """
    (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    index = _fetch(machine, layout, "index.json", folder)
    manifest = _fetch_blob(machine, layout, folder, json.loads(index)["manifests"][0]["digest"])
    _fetch_blob(machine, layout, folder, json.loads(manifest)["config"]["digest"])
    return layouts.read(folder)


def release_there(machine: Machine, work: str, folder: Path, name: str, made: Made) -> Release:
    """The release of the layout in `work`. `folder` is a directory here for the small files. Raises one of FAILURES."""
    image = fetch_small(machine, f"{work}/layout", folder)
    before = json.loads(_fetch(machine, work, "before.json", folder))
    machine.fetch(("tar", "-c", "-C", f"{work}/told", "."), folder / "told.tar")
    files = _told(folder / "told.tar")
    return compose(image, name, replace(made, dropped=dropped_by_conversion(before, image.document)), files)


def _fetch_blob(machine: Machine, layout: str, folder: Path, digest: str) -> bytes:
    relative = layouts.blob_path(folder, digest).relative_to(folder)
    return _fetch(machine, layout, str(relative), folder)


def _fetch(machine: Machine, where: str, path: str, folder: Path) -> bytes:
    machine.fetch(("cat", f"{where}/{path}"), folder / path)
    return (folder / path).read_bytes()


def _told(archive: Path) -> dict[str, Found]:
    """For each of the files that tell of an image the one that there is."""
    found: dict[str, Found] = {}
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda one: one.name):
            path = member.name.removeprefix("./")
            key = next((key for key, pattern in FILES.items() if pattern.fullmatch(path)), None)
            file = tar.extractfile(member) if key and key not in found and member.isfile() else None
            if key and file:
                found[key] = Found(path, file.read(LARGEST))
    return found
