"""What goes from where images are made: the images `NAME:build-KEY` and the build cache of a builder, and old layouts.

Ours on a builder is an image whose label `io.fleet.content-key` is the KEY of its own tag: an image that somebody made
from it inherits the label and not the tag.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.image.builder_facts import BuilderFacts
from fleet.image.describe import LABEL_BASE_KEY, LABEL_KEY
from fleet.image.machine import Machine
from fleet.image.release import Release
from fleet.prune.controller import extent
from fleet.prune.facts import Kept
from fleet.report.units import bytes_of, size

UNFINISHED = 2 * 86400.0  # seconds; nobody makes a layout for two days
_BUILT = re.compile(r"(?P<name>.+):build-(?P<key>[0-9a-f]+)")
LIST = ("docker", "image", "ls", "--no-trunc", "--filter", f"label={LABEL_KEY}", "--format", "{{.Repository}}:{{.Tag}}")
CACHE = ("docker", "system", "df", "--format", "{{json .}}")


@dataclass(frozen=True)
class BuiltImage:
    """An image of ours on a builder; `used`: a container was made from it, `created` is RFC 3339, `size` in bytes."""

    tag: str
    key: str
    size: int
    created: str
    used: bool = False


@dataclass(frozen=True)
class RemoveBuilt:
    tag: str
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove image {self.tag}"


@dataclass(frozen=True)
class ShrinkCache:
    """Have the engine forget what of its build cache was not used for longest. `argv` says how this engine is told."""

    argv: tuple[str, ...]
    size: int
    why: str

    @property
    def what(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True)
class LayoutFile:
    """A directory in `.fleet/layouts`; `age` in seconds since it was last written, `size` in bytes."""

    path: Path
    age: float
    size: int


@dataclass(frozen=True)
class RemoveLayout:
    path: Path
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove {self.path}"


def plan_built(
    images: Sequence[BuiltImage], keys: Mapping[str, str], keep: int
) -> tuple[tuple[RemoveBuilt, ...], tuple[Kept, ...]]:
    """Pure. `keys` are content keys that are needed, with why; of the others the `keep` newest of each name stay."""
    steps, kept, newest = list[RemoveBuilt](), list[Kept](), dict[str, int]()
    for image in sorted(images, key=lambda one: (one.created, one.tag), reverse=True):
        name = image.tag.rpartition(":")[0]
        newest[name] = newest.get(name, 0) + 1
        if image.key in keys:
            kept.append(Kept(f"image {image.tag}", keys[image.key]))
        elif newest[name] <= keep:
            kept.append(Kept(f"image {image.tag}", f"one of the {keep} newest that were built"))
        elif image.used:
            kept.append(Kept(f"image {image.tag}", "a container was made from it"))
        else:
            steps.append(RemoveBuilt(image.tag, image.size, "nothing needs what was built of this content key"))
    return tuple(steps), tuple(kept)


def plan_cache(used: int, limit: int, builder: BuilderFacts) -> tuple[ShrinkCache, ...]:
    """Pure. `used` and `limit` in bytes; 0 is no limit. A cache has no owner: BuildKit keeps one for all who build there."""
    if not limit or used <= limit:
        return ()
    head = ("docker", "buildx", "prune") if builder.buildx else ("docker", "builder", "prune")
    # buildx 0.17 renamed the flag; the old name still works, but says so.
    flag = "--max-used-space" if builder.buildx >= (0, 17) else "--keep-storage"
    why = f"the build cache has {size(used)}, and fleet.retention.cache is {size(limit)}"
    return (ShrinkCache((*head, "--force", flag, str(limit)), used - limit, why),)


def plan_layouts(
    layouts: Sequence[LayoutFile], needed: Mapping[str, str], keep: int
) -> tuple[tuple[RemoveLayout, ...], tuple[Kept, ...]]:
    """Pure. What is here can be had again: from the registry, the builder, the hosts, or where it came from."""
    steps, kept, newest = list[RemoveLayout](), list[Kept](), 0
    for layout in sorted(layouts, key=lambda one: (one.age, one.path.name)):
        if layout.path.name.startswith("new-") and layout.age > UNFINISHED:
            steps.append(RemoveLayout(layout.path, layout.size, "it was begun and never finished"))
        if not re.fullmatch("[0-9a-f]{12}", layout.path.name):
            continue
        newest += 1
        if layout.path.name in needed:
            kept.append(Kept(f"layout {layout.path}", needed[layout.path.name]))
        elif newest <= keep:
            kept.append(Kept(f"layout {layout.path}", f"one of the {keep} newest here"))
        else:
            steps.append(RemoveLayout(layout.path, layout.size, "no host of the inventory needs the release"))
    return tuple(steps), tuple(kept)


def keys_of(needed: Mapping[str, str], known: Mapping[str, Release]) -> dict[str, str]:
    """Content keys of the releases that are needed, and of the bases they were built on, with why. Pure."""
    found = base_keys_of(needed, known)
    found |= {known[name].content_key: why for name, why in needed.items() if name in known}
    return {key: why for key, why in found.items() if key}


def base_keys_of(needed: Mapping[str, str], known: Mapping[str, Release]) -> dict[str, str]:
    """Content keys of the bases of our own below the releases that are needed, with why. Pure."""
    there = (known[name] for name in needed if name in known)
    return {key: f"the base of {one.local_name}" for one in there if (key := one.labels.get(LABEL_BASE_KEY, ""))}


def read_built(machine: Machine) -> tuple[BuiltImage, ...]:
    """Images of ours on a builder. Changes nothing. Raises FleetError where docker does not answer."""
    listed = machine.run(LIST)
    if not listed.ok:
        raise FleetError(f"{machine.name}: the images could not be read: {listed.stderr.strip()}")
    found = []
    for tag in dict.fromkeys(listed.stdout.split()):
        match = _BUILT.fullmatch(tag)
        asked = machine.run(("docker", "image", "inspect", tag)) if match else None
        if match is None or asked is None or not asked.ok:
            continue
        (data,) = json.loads(asked.stdout)
        if ((data.get("Config") or {}).get("Labels") or {}).get(LABEL_KEY) == match["key"]:
            users = machine.run(("docker", "ps", "--all", "--quiet", "--filter", f"ancestor={data['Id']}"))
            used = bool(users.stdout.strip()) or not users.ok
            found.append(BuiltImage(tag, match["key"], int(data.get("Size") or 0), str(data.get("Created")), used))
    return tuple(found)


def read_cache(machine: Machine) -> int:
    """Bytes of the build cache, 0 where the engine does not say."""
    lines = [json.loads(line) for line in machine.run(CACHE).stdout.splitlines() if line.startswith("{")]
    return next((bytes_of(str(one.get("Size"))) for one in lines if one.get("Type") == "Build Cache"), 0)


def read_layouts(root: Path, now: float) -> tuple[LayoutFile, ...]:
    """Changes nothing."""
    found = []
    for path in sorted((root / "layouts").glob("*")):
        if path.is_dir() and not path.name.startswith("."):
            newest, size_of_it = extent(path)
            found.append(LayoutFile(path, max(now - newest, 0.0), size_of_it))
    return tuple(found)


def plan_scratch(folders: Sequence[Path]) -> tuple[RemoveLayout, ...]:
    """Working directories of processes that are gone."""
    return tuple(RemoveLayout(path, extent(path)[1], "a process that is gone left it") for path in folders)


def run(step: RemoveBuilt | ShrinkCache, machine: Machine) -> None:
    """Never by force. Raises FleetError."""
    argv = ("docker", "image", "rm", step.tag) if isinstance(step, RemoveBuilt) else step.argv
    done = machine.run(argv)
    if not done.ok and "No such image" not in done.stderr:
        raise FleetError(f"{machine.name}: could not {step.what}: {done.stderr.strip()}")


def remove_layout(step: RemoveLayout) -> None:
    try:
        shutil.rmtree(step.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FleetError(f"could not {step.what}: {error.strerror}") from error
