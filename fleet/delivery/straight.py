"""From the builder straight into the registry: the layout is made there, once, and pushed from there.

The controller gets the few kilobytes that a release is known by, and none of its layers. Where this does not work the
image comes through the controller, as one that was built here would, and the reason is said.
"""

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.delivery.progress import Moving, silent
from fleet.delivery.push import push
from fleet.errors import FleetError
from fleet.image import layout as layouts
from fleet.image.describe import FILES, Made, compose, dropped_by_conversion
from fleet.image.image_files import Found
from fleet.image.machine import Here, Machine
from fleet.image.release import Release
from fleet.image.scratch import scratch
from fleet.inventory.settings import Registry
from fleet.report.units import size

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
REACH = ("timeout", "10", "bash", "-c", 'exec 3<>"/dev/tcp/$0/$1"')


@dataclass(frozen=True)
class Straight:
    """The way from one builder to one registry. `note` hears which way it went."""

    machine: Machine
    registry: Registry
    on_line: Callable[[str], None]
    note: Callable[[str], None]
    moving: Moving = silent

    def words(self) -> str:
        """The way of an image that has yet to be built, for a plan."""
        why = self.obstacle()
        if not why:
            return f"{self.machine.name} would push it straight to {self.registry.host}"
        return f"it would go to {self.registry.host} through this controller: {why}"

    def obstacle(self) -> str:
        """Why the bytes have to go through the controller, empty when they need not. Changes nothing."""
        if isinstance(self.machine, Here):
            return "the images are built here"
        if not self.machine.run(("skopeo", "--version")).ok:
            return f"{self.machine.name} has no skopeo"
        host, _, port = (
            self.registry.host.rpartition(":") if ":" in self.registry.host else (self.registry.host, "", "443")
        )
        if not self.machine.run((*REACH, host.strip("[]"), port)).ok:
            return f"{self.machine.name} cannot reach {self.registry.host}"
        return ""

    def bring(self, tag: str, name: str, made: Made, root: Path) -> Release | None:
        """Make the layout of the builder's image `tag` there and push it as `name:RELEASE`.

        None where that does not work, with the reason said. `root` is a directory here for the small files.
        """
        why = self.obstacle()
        if why:
            self.note(f"{name} goes to {self.registry.host} through this controller: {why}")
            return None
        try:
            with self._layout(tag) as work, scratch(root) as folder:
                release = self._release(work, folder, name, made)
                what = f"push {release.local_name} to {self.registry.host}"
                with self.moving(self.machine.name, what, release.size) as at:
                    push(
                        f"{work}/layout:image",
                        self.registry,
                        name,
                        release.id,
                        machine=self.machine,
                        on_line=self.on_line,
                        at=at,
                    )
        except (FleetError, ValueError, tarfile.TarError) as error:
            self.note(f"{name} goes to {self.registry.host} through this controller: {error}")
            return None
        way = f"straight to {self.registry.host}"
        self.note(f"{self.machine.name} pushed {release.local_name} ({size(release.size)}) {way}")
        return release

    @contextmanager
    def _layout(self, tag: str) -> Iterator[str]:
        """A directory on the builder with `layout` and `before.json`, gone afterwards."""
        lines: list[str] = []
        self.on_line(f"making the layout of {tag} on {self.machine.name}")
        with self.machine.bench() as work:
            if self.machine.stream(("sh", "-c", MAKE, "sh", work, tag, TELL), lines.append):
                said = lines[-1] if lines else "without a word"
                raise FleetError(f"the layout could not be made on {self.machine.name}: {said}")
            yield work

    def _release(self, work: str, folder: Path, name: str, made: Made) -> Release:
        """From index, manifest and config, checked by their digests, and the files that a release is told by."""
        (folder / "blobs/sha256").mkdir(parents=True)
        index = self._fetch(f"{work}/layout", "index.json", folder)
        manifest = self._fetch_blob(work, folder, json.loads(index)["manifests"][0]["digest"])
        self._fetch_blob(work, folder, json.loads(manifest)["config"]["digest"])
        image = layouts.read(folder)
        before = json.loads(self._fetch(work, "before.json", folder))
        self.machine.fetch(("tar", "-c", "-C", f"{work}/told", "."), folder / "told.tar")
        files = _told(folder / "told.tar")
        return compose(image, name, replace(made, dropped=dropped_by_conversion(before, image.document)), files)

    def _fetch_blob(self, work: str, folder: Path, digest: str) -> bytes:
        relative = layouts.blob_path(folder, digest).relative_to(folder)
        return self._fetch(f"{work}/layout", str(relative), folder)

    def _fetch(self, where: str, path: str, folder: Path) -> bytes:
        self.machine.fetch(("cat", f"{where}/{path}"), folder / path)
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
