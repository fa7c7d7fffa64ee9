"""What has to be done so that a host holds models as their sources say. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

from fleet.models.content import Content, File, Source
from fleet.models.held import Ground, Model
from fleet.models.names import split
from fleet.report.units import size as size_words

SPARE = 64 << 20  # bytes that stay free


@dataclass(frozen=True)
class Keep:
    """Nothing happens to the model."""

    name: str
    why: str
    changes = False
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"keep model {self.name}"


@dataclass(frozen=True)
class Adopt:
    """The files are right and nobody has listed them: their checksums are put beside them."""

    name: str
    content: Content
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"list the checksums of model {self.name}"


@dataclass(frozen=True)
class Bring:
    """Files are staged beside the model and checked there. `size` is in bytes to come, `there` what came before."""

    name: str
    files: tuple[File, ...]
    size: int
    there: int
    why: str
    way: str
    changes = True

    @property
    def what(self) -> str:
        left = f", goes on at {size_words(self.there)}" if self.there else ""
        return f"stage {len(self.files)} file{'' if len(self.files) == 1 else 's'} of model {self.name}{left}"


@dataclass(frozen=True)
class Switch:
    """A new version is put together from staged and kept files, and takes the model's name in one rename.

    `before` is the name that a plain directory gets which has the model's name now.
    """

    name: str
    content: Content
    version: str
    staged: frozenset[str]  # paths that come from blobs
    before: str
    why: str
    replaces: bool  # something is there that services may be reading
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"switch model {self.name} to {self.version}"


@dataclass(frozen=True)
class Retire:
    """Versions that nobody needs are removed."""

    name: str
    versions: tuple[str, ...]
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"remove {', '.join(self.versions)}"


Step = Keep | Adopt | Bring | Switch | Retire


@dataclass(frozen=True)
class Plan:
    """`problems` keep the host from being touched."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()


def plan_models(ground: Ground, wanted: Mapping[str, Source], mounted: Callable[[str], bool] | None = None) -> Plan:
    """All models of a host, by name. `mounted(path)` says of a directory below models_dir whether a container that runs
    has it mounted; what the host itself saw mounted counts as well.
    """
    steps: list[Step] = []
    problems: list[str] = []
    for name, source in wanted.items():
        found = ground.model(name)
        if found.kind == "other":
            problems.append(f"{ground.directory}/{name} is no directory, so model {name} cannot take its place")
            continue
        steps += _plan(ground, found, source, mounted or (lambda _path: False))
    changes = [step for step in steps if step.changes]
    if changes and not ground.writable:
        problems.append(
            f"models go to {ground.directory}, which only its owner may write: set ansible_become, or give "
            "fleet.models_dir a directory of the login's own"
        )
    need = sum(step.size for step in steps) + sum(_copied(ground, step) for step in steps)
    if need and need + SPARE > ground.free:
        short = f"{ground.directory} has {size_words(ground.free)} free"
        problems.append(f"{short}, and models of {size_words(need)} with {size_words(SPARE)} to spare do not fit")
    return Plan(tuple(steps), tuple(problems))


def _copied(ground: Ground, step: Step) -> int:
    """Bytes of files that are kept and cannot be hard links."""
    if not isinstance(step, Switch) or not ground.model(step.name).apart:
        return 0
    return sum(one.size for one in step.content.files if one.path not in step.staged)


def _plan(ground: Ground, found: Model, source: Source, mounted: Callable[[str], bool]) -> list[Step]:
    content = source.content
    missing = tuple(one for one in content.files if not found.has(one))
    extra = sorted(found.sizes.keys() - {one.path for one in content.files})
    if not missing and not extra:
        listed = {one.path: one.sha256 for one in content.files}
        steps: list[Step] = []
        if found.listed != listed and not found.open:
            why = (
                "its files are right; without leave to write there is no list of their checksums, and they were hashed"
            )
            steps.append(Keep(found.name, why))
        elif found.listed != listed:
            why = "its files are right, and there is no list of their checksums that says so"
            steps.append(Adopt(found.name, content, why))
        else:
            steps.append(Keep(found.name, f"{len(content.files)} files, {size_words(content.size)}, as they should be"))
        return [*steps, *_retire(ground, found, found.current, _previous(found), mounted)]
    why = _why(found, missing, extra)
    steps = []
    parcels = tuple({one.sha256: one for one in missing}.values())
    staged = sum(ground.staged(one) for one in parcels)
    bytes_ = sum(one.size for one in parcels)
    if parcels:
        steps.append(Bring(found.name, parcels, bytes_ - staged, staged, why, source.way))
    version = _free_name(found, content.digest[:12])
    before = _free_name(found, "before") if found.kind == "plain" else ""
    paths = frozenset(one.path for one in missing)
    steps.append(Switch(found.name, content, version, paths, before, why, replaces=found.there))
    return [*steps, *_retire(ground, found, version, before or found.current, mounted)]


def _why(found: Model, missing: tuple[File, ...], extra: list[str]) -> str:
    if not found.there:
        return "the host does not have it"
    other = [one.path for one in missing if one.path in found.sizes]
    absent = len(missing) - len(other)
    words = [
        f"{len(other)} differ{'s' if len(other) == 1 else ''} ({other[0]})" if other else "",
        f"{absent} {'is' if absent == 1 else 'are'} missing" if absent else "",
        f"{len(extra)} {'is' if len(extra) == 1 else 'are'} not in the source ({extra[0]})" if extra else "",
    ]
    return "of its files " + ", ".join(word for word in words if word)


def _free_name(found: Model, word: str) -> str:
    """A version's directory that is not there yet: a damaged one of the same content keeps its name."""
    taken = {one.folder for one in found.versions}
    first = f".{split(found.name)[1]}.{word}"
    return first if first not in taken else next(name for n in count(2) if (name := f"{first}-{n}") not in taken)


def _previous(found: Model) -> str:
    """The version that was served before the present one."""
    others = [one for one in found.versions if one.folder != found.current]
    return max(others, key=lambda one: (one.since, one.folder)).folder if others else ""


def _retire(
    ground: Ground, found: Model, current: str, previous: str, mounted: Callable[[str], bool]
) -> tuple[Retire, ...]:
    """All versions but these two, and those that something has mounted."""
    parent = split(found.name)[0]
    inside = ground.directory if parent == "." else f"{ground.directory}/{parent}"
    # Where the host cannot tell what a mount of the model's own name led to when it was made, all stay.
    if not ground.root and mounted(f"{ground.directory}/{found.name}"):
        return ()
    versions = tuple(
        one.folder
        for one in found.versions
        if one.folder not in (current, previous, found.current) and not one.mounted
        if not mounted(f"{inside}/{one.folder}")
    )
    return (Retire(found.name, versions, "the version before the present one is kept"),) if versions else ()
