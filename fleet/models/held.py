"""What of models lies on one host, as LOOK tells it, completed by what had to be hashed there. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fleet.models.content import Content, File, parse_listing
from fleet.models.names import of_cache, path_problem, split
from fleet.models.scripts import MARK

_HEX = re.compile(r"[0-9a-f]{64}")
_SNAPSHOT = re.compile(r"([^/]+)/snapshots/([^/]+)")


@dataclass(frozen=True)
class Version:
    """A directory beside a model: one that was served before. `since` is when, in seconds of the host's clock."""

    folder: str
    since: int
    mounted: bool  # some process sees it as a mount of its own


@dataclass(frozen=True)
class Model:
    """One name below models_dir. `kind`: none, plain (a directory), link, other (no directory).

    `sizes` are all files that are there, `sums` their checksums as far as the list beside them tells and nothing is newer
    than that, or as they were hashed.
    """

    name: str
    kind: str = "none"
    target: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, str] | None = None  # the list itself
    versions: tuple[Version, ...] = ()
    open: bool = False  # a list may be put beside its files
    apart: bool = False  # its files lie on another disk than models_dir
    refs: tuple[str, ...] = ()  # of a snapshot in Hugging Face's cache
    broken: tuple[str, ...] = ()  # links that lead to nothing

    @property
    def there(self) -> bool:
        return bool(self.sizes)

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    @property
    def current(self) -> str:
        """The version's directory, where NAME is a link of ours."""
        return self.target if self.kind == "link" and _versions(self.name).fullmatch(self.target) else ""

    @property
    def cached(self) -> tuple[str, str]:
        """Model and revision, of a snapshot in Hugging Face's cache; else empty."""
        found = _SNAPSHOT.fullmatch(self.name)
        model = of_cache(found[1]) if found else ""
        return (model, found[2]) if found and model else ("", "")

    def hashed(self, sums: Mapping[str, str]) -> "Model":
        """The same, with what was hashed on the host."""
        return replace(self, sums={**self.sums, **sums})

    def unsure(self, content: Content, *, everything: bool = False) -> tuple[str, ...]:
        """Paths that have to be hashed to know whether they are as `content` says; those of another size need not."""
        wanted = {one.path: one.size for one in content.files}
        return tuple(
            path
            for path, size in sorted(self.sizes.items())
            if wanted.get(path) == size and (everything or path not in self.sums)
        )

    def has(self, file: File) -> bool:
        return self.sizes.get(file.path) == file.size and self.sums.get(file.path) == file.sha256


@dataclass(frozen=True)
class Ground:
    """models_dir of a host. `blobs` are staged files that came whole, `parts` those under way: hex -> bytes."""

    directory: str
    there: bool = False
    writable: bool = False
    root: bool = False
    free: int = 0
    curl: bool = False
    blobs: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        return self.models.get(name) or Model(name)

    def staged(self, file: File) -> int:
        """Bytes of a file that need not be sent; what cannot be right counts as nothing."""
        if self.blobs.get(file.sha256) == file.size:
            return file.size
        part = self.parts.get(file.sha256, 0)
        return part if part <= file.size else 0

    def with_model(self, model: Model) -> "Ground":
        return replace(self, models={**self.models, model.name: model})


def parse(directory: str, lines: Iterable[str]) -> Ground:
    """What LOOK printed; lines that are not its own are passed over."""
    ground = Ground(directory)
    blobs: dict[str, int] = {}
    parts: dict[str, int] = {}
    told: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        mark, _, rest = line.partition(" ")
        match rest.split(" ", 2) if mark == MARK else ():
            case ("there",):
                ground = replace(ground, there=True)
            case ("writable",):
                ground = replace(ground, writable=True)
            case ("curl",):
                ground = replace(ground, curl=True)
            case ("root", uid):
                ground = replace(ground, root=uid == "0")
            case ("free", blocks) if blocks.isdecimal():
                ground = replace(ground, free=int(blocks) * 1024)
            case ("blob", size, file) if size.isdecimal() and _HEX.fullmatch(file.removesuffix(".part")):
                (parts if file.endswith(".part") else blobs)[file.removesuffix(".part")] = int(size)
            case ("model", _, name):
                told[name] = [rest]
            case _ if rest and name:
                told[name].append(rest)
    models = {name: _model(name, lines) for name, lines in told.items()}
    return replace(ground, blobs=blobs, parts=parts, models=models)


def _model(name: str, lines: Iterable[str]) -> Model:
    model = Model(name)
    sizes: dict[str, int] = {}
    sums: list[str] = []
    newer: set[str] = set()
    for line in lines:
        word, _, rest = line.partition(" ")
        first, _, second = rest.partition(" ")
        match word:
            case "model":
                model = replace(model, kind=first)
            case "target":
                model = replace(model, target=rest)
            case "version" if first.isdecimal():
                held, _, folder = second.partition(" ")
                if _versions(name).fullmatch(folder):
                    version = Version(folder, int(first), held == "mounted")
                    model = replace(model, versions=(*model.versions, version))
            case "file" if first.isdecimal() and not path_problem(second.removeprefix("./")):
                sizes[second.removeprefix("./")] = int(first)
            case "file" if first.isdecimal():
                sizes[second] = int(first)  # nothing of ours: it is no file of any source
            case "open":
                model = replace(model, open=True)
            case "apart":
                model = replace(model, apart=True)
            case "listed":
                model = replace(model, listed={})
            case "sum":
                sums.append(rest)
            case "newer":
                newer.add(rest.removeprefix("./"))
            case "ref":
                model = replace(model, refs=(*model.refs, rest))
            case "broken":
                model = replace(model, broken=(*model.broken, rest.removeprefix("./")))
    if model.listed is None:
        return replace(model, sizes=sizes)
    listed = parse_listing(sums)
    believed = {path: sha256 for path, sha256 in listed.items() if path in sizes and path not in newer}
    return replace(model, sizes=sizes, listed=listed, sums=believed)


def _versions(name: str) -> re.Pattern[str]:
    """Names of the directories that a model's versions have. `a.b` has none that `a` could take for its own."""
    return re.compile(rf"\.{re.escape(split(name)[1])}\.([0-9a-f]{{12}}|before)(-[0-9]+)?")
