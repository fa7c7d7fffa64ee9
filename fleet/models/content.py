"""What a model is: its files with sizes and checksums, sorted by path, and one digest over all of them. Pure."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from fleet.models.names import path_problem

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True, order=True)
class File:
    """`path` is relative to the model, with slashes; `size` in bytes; `sha256` in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Content:
    """A model under the name that it has below models_dir."""

    name: str
    files: tuple[File, ...]

    @classmethod
    def of(cls, name: str, files: Iterable[File]) -> "Content":
        return cls(name, tuple(sorted(files)))

    @property
    def size(self) -> int:
        return sum(one.size for one in self.files)

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, over the list of its files."""
        return hashlib.sha256(listing(self.files).encode()).hexdigest()


class Source(Protocol):
    """A model that can be brought: what it is, and which way its bytes come, for people."""

    @property
    def content(self) -> Content: ...

    @property
    def way(self) -> str: ...


def listing(files: Iterable[File]) -> str:
    """The list that is kept beside the files, as sha256sum writes and reads it."""
    return "".join(f"{one.sha256}  {one.path}\n" for one in sorted(files))


def parse_listing(lines: Iterable[str]) -> dict[str, str]:
    """Path -> sha256. A line that cannot be ours is passed over: its file then counts as unknown."""
    found = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match and not path_problem(match[2]):
            found[match[2]] = match[1]
    return found
