"""What goes from where images are made: the images `NAME:build-KEY` and the build cache of a builder, and old layouts.

Ours on a builder is an image under a name of this inventory's, whose label `io.fleet.content-key` is the KEY of its own
tag (an image that somebody made from it inherits the label and not the tag), and which this inventory had built: others may
build there under the same name. One that lost its name is ours by its ID or its digest alone.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.delivery.depot import DEPOT
from fleet.errors import FleetError
from fleet.image.builder_facts import BuilderFacts
from fleet.image.describe import LABEL_BASE_KEY, LABEL_KEY
from fleet.image.machine import Machine
from fleet.image.release import Release
from fleet.prune.controller import extent
from fleet.prune.facts import Kept, Room
from fleet.prune.ownership import NOT_OURS, Leave, Owned
from fleet.report.units import bytes_of, size

UNFINISHED = 2 * 86400.0  # seconds; nobody makes a layout for two days
_BUILT = re.compile(r"(?P<name>.+):build-(?P<key>[0-9a-f]+)")
LIST = ("docker", "image", "ls", "--no-trunc", "--filter", f"label={LABEL_KEY}", "--format", "{{.Repository}}:{{.Tag}}")
LOST = ("docker", "image", "ls", "--no-trunc", "--quiet", "--filter", "dangling=true", "--filter", f"label={LABEL_KEY}")
ROOT_DIR = ("docker", "info", "--format", "{{.DockerRootDir}}")
LEFT, KEPT = "a killed build left it", "layouts were kept there for hosts, two days ago or longer"
BEGUN = ("-name", "build-*", "-mtime", "+2")
CACHE = ("docker", "system", "df", "--format", "{{json .}}")


@dataclass(frozen=True)
class BuiltImage:
    """An image that may be ours; `used`: a container was made from it, `created` is RFC 3339, `size` in bytes.

    One without a name has no `key`, for its label may be inherited, and its ID for a `tag`.
    """

    tag: str
    key: str
    size: int
    created: str
    used: bool = False
    id: str = ""


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
    """A layout, or the working directory of what was never finished."""

    path: Path
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove {self.path}"


def plan_built(
    images: Sequence[BuiltImage], keys: Mapping[str, str], keep: int, owned: Owned
) -> tuple[tuple[RemoveBuilt | Leave, ...], tuple[Kept, ...]]:
    """Pure. `keys` (and digests) are needed, with why; of the others of ours the `keep` newest of each name stay."""
    steps, kept, newest = list[RemoveBuilt | Leave](), list[Kept](), dict[str, int]()
    for image in sorted(images, key=lambda one: (one.created, one.tag), reverse=True):
        name, token = image.tag.rpartition(":")[0], image.key or image.id
        if not owned.has(token):
            kept.append(Kept(f"image {image.tag}", keys.get(token, NOT_OURS)))
            continue
        newest[name] = newest.get(name, 0) + 1
        if token in keys:
            kept.append(Kept(f"image {image.tag}", keys[token]))
        elif image.key and newest[name] <= keep:
            kept.append(Kept(f"image {image.tag}", f"one of the {keep} newest that were built"))
        elif image.used:
            kept.append(Kept(f"image {image.tag}", "a container was made from it"))
        elif owned.shares(token):
            steps.append(Leave(f"image {image.tag}", (token,), "nothing here needs it"))
        elif not image.key:
            steps.append(RemoveBuilt(image.tag, image.size, "it lost its name to what was built later"))
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
    layouts: Sequence[LayoutFile], needed: Mapping[str, str], keep: int, owned: Owned
) -> tuple[tuple[RemoveLayout | Leave, ...], tuple[Kept, ...]]:
    """Pure. What is here can be had again: from the registry, the builder, the hosts, or where it came from."""
    steps, kept, newest = list[RemoveLayout | Leave](), list[Kept](), 0
    for layout in sorted(layouts, key=lambda one: (one.age, one.path.name)):
        name = layout.path.name
        if not re.fullmatch("[0-9a-f]{12}", name):
            continue
        if not owned.has(name):
            kept.append(Kept(f"layout {layout.path}", needed.get(name, NOT_OURS)))
            continue
        newest += 1
        if name in needed:
            kept.append(Kept(f"layout {layout.path}", needed[name]))
        elif newest <= keep:
            kept.append(Kept(f"layout {layout.path}", f"one of the {keep} newest here"))
        elif owned.shares(name):
            steps.append(Leave(f"layout {layout.path}", (name,), "nothing here needs it"))
        else:
            steps.append(RemoveLayout(layout.path, layout.size, "no host of the inventory needs the release"))
    return tuple(steps), tuple(kept)


def plan_unfinished(layouts: Sequence[LayoutFile]) -> tuple[RemoveLayout, ...]:
    """Pure. Whoever began them has long stopped."""
    lost = (one for one in layouts if one.path.name.startswith("new-") and one.age > UNFINISHED)
    return tuple(RemoveLayout(one.path, one.size, "it was begun and never finished") for one in lost)


def keys_of(needed: Mapping[str, str], known: Mapping[str, Release]) -> dict[str, str]:
    """Content keys and digests of the releases that are needed, and the keys of their own bases, with why. Pure."""
    found = base_keys_of(needed, known)
    there = [(known[name], why) for name, why in needed.items() if name in known]
    found |= {key: why for one, why in there for key in (one.content_key, one.config_digest, one.manifest_digest)}
    return {key: why for key, why in found.items() if key}


def base_keys_of(needed: Mapping[str, str], known: Mapping[str, Release]) -> dict[str, str]:
    """Content keys of the bases of our own below the releases that are needed, with why. Pure."""
    there = (known[name] for name in needed if name in known)
    return {key: f"the base of {one.local_name}" for one in there if (key := one.labels.get(LABEL_BASE_KEY, ""))}


def read_built(machine: Machine, names: Collection[str]) -> tuple[BuiltImage, ...]:
    """Images on a builder under one of these `names`, and under none. Changes nothing.

    Raises FleetError where docker does not answer.
    """
    listed, lost = machine.run(LIST), machine.run(LOST)
    if not listed.ok or not lost.ok:
        complaint = (listed.stderr or lost.stderr).strip()
        raise FleetError(f"{machine.name}: the images could not be read: {complaint}")
    found = []
    for tag in dict.fromkeys((*listed.stdout.split(), *lost.stdout.split())):
        match = _BUILT.fullmatch(tag)
        wanted = (match is not None and match["name"] in names) or re.fullmatch("sha256:[0-9a-f]{64}", tag)
        asked = machine.run(("docker", "image", "inspect", tag)) if wanted else None
        if asked is None or not asked.ok:
            continue
        (data,) = json.loads(asked.stdout)
        if match is None or ((data.get("Config") or {}).get("Labels") or {}).get(LABEL_KEY) == match["key"]:
            users = machine.run(("docker", "ps", "--all", "--quiet", "--filter", f"ancestor={data['Id']}"))
            used = bool(users.stdout.strip()) or not users.ok
            key, bytes_of_it = match["key"] if match else "", int(data.get("Size") or 0)
            found.append(BuiltImage(tag, key, bytes_of_it, str(data.get("Created")), used, str(data["Id"])))
    return tuple(found)


def read_room(machine: Machine) -> Room:
    """Of the file system below Docker's root directory; zeros where df says nothing."""
    root = machine.run(ROOT_DIR).stdout.strip() or "/"
    words = machine.run(("df", "-Pk", "--", root)).stdout.split()[-6:]  # device, size, used, free, share, where
    numbers = [int(word) * 1024 for word in words[2:4] if word.isdecimal()]
    return Room(*numbers) if len(numbers) == 2 else Room()


def read_left(machine: Machine, staging: str) -> tuple[RemoveLayout, ...]:
    """Steps for what builds that were killed left in the staging directory. Nobody builds for two days."""
    told = machine.run(("find", staging, "-maxdepth", "1", *BEGUN, "-exec", "du", "-sk", "{}", "+")).stdout
    found = ((Path(path), int(count) * 1024) for count, _, path in (line.partition("\t") for line in told.splitlines()))
    return tuple(RemoveLayout(path, room, KEPT if path.name == DEPOT else LEFT) for path, room in found)


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


def run(step: RemoveBuilt | ShrinkCache | RemoveLayout, machine: Machine) -> None:
    """An image never by force. Raises FleetError."""
    match step:
        case RemoveBuilt():
            argv: tuple[str, ...] = ("docker", "image", "rm", step.tag)
        case ShrinkCache():
            argv = step.argv
        case RemoveLayout():
            argv = ("rm", "-rf", "--", str(step.path))
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
