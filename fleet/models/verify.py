"""Whether a model on a host is what it should be: by the list beside its files, or by a source. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.models.content import Content
from fleet.models.held import Model


@dataclass(frozen=True)
class Verdict:
    """`files` were compared. `known` is False where nothing says what the files should be."""

    name: str
    files: int = 0
    known: bool = True
    wrong: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return self.known and not (self.wrong or self.missing or self.extra)

    @property
    def words(self) -> str:
        if not self.known:
            return "there is no list of its checksums, so nobody can tell; models.push makes one"
        found = (("damaged", self.wrong), ("missing", self.missing), ("not in the list", self.extra))
        said = [f"{len(paths)} {word}: {', '.join(paths[:3])}" for word, paths in found if paths]
        return "; ".join(said) or f"{self.files} files are right"


def expected(model: Model, content: Content | None) -> Mapping[str, str] | None:
    """Path -> sha256 by the source, else by the list on the host; None where there is neither."""
    return {one.path: one.sha256 for one in content.files} if content else model.listed


def judge(model: Model, wanted: Mapping[str, str] | None, found: Mapping[str, str]) -> Verdict:
    """`found` are the checksums that the host has just made."""
    if wanted is None:
        return Verdict(model.name, known=False)
    return Verdict(
        model.name,
        len(wanted),
        wrong=tuple(path for path in sorted(wanted) if path in model.sizes and found.get(path) != wanted[path]),
        missing=tuple(path for path in sorted(wanted) if path not in model.sizes),
        extra=tuple(sorted(model.sizes.keys() - wanted.keys())),
    )
