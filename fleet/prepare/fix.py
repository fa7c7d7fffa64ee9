"""A fix as a value: the files it edits, the commands it runs, and how it is undone. Pure."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BACKUP = ".before-fleet"  # and a number: the file as it was, beside the file


class NotEditableError(ValueError):
    """The file does not hold what it should, so nobody can say what an edit would do to it."""


@dataclass(frozen=True)
class SetKey:
    """`key = value` in a file of such lines, as in sysctl.d; other lines stay as they are."""

    path: str
    key: str
    value: str

    @property
    def says(self) -> str:
        return f"{self.key} = {self.value}"

    def edited(self, before: str) -> str:
        line = f"{self.key} = {self.value}"
        pattern = re.compile(rf"^[ \t]*-?{re.escape(self.key)}[ \t]*=.*$", re.MULTILINE)
        if pattern.search(before):
            return pattern.sub(lambda _: line, before)
        return f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}{line}\n"


@dataclass(frozen=True)
class MergeJson:
    """Values merged into a JSON object, mapping by mapping; what is there and not named stays."""

    path: str
    values: Mapping[str, Any]

    @property
    def says(self) -> str:
        return json.dumps(self.values)

    def edited(self, before: str) -> str:
        """Raises NotEditableError for text that is no JSON object."""
        try:
            found = json.loads(before) if before.strip() else {}
        except ValueError as error:
            raise NotEditableError(f"is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise NotEditableError("is not a JSON object")
        merged = _merged(found, self.values)
        return before if merged == found and before.strip() else json.dumps(merged, indent=2) + "\n"


@dataclass(frozen=True)
class Place:
    """A file of the controller, as it is."""

    path: str
    source: Path

    @property
    def says(self) -> str:
        return f"a copy of {self.source}"

    def edited(self, _before: str) -> str:
        """Raises NotEditableError when the controller's file cannot be read."""
        try:
            return self.source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotEditableError(f"cannot be written: {self.source}: {error}") from error


Edit = SetKey | MergeJson | Place
Command = tuple[str, ...]


@dataclass(frozen=True)
class Fix:
    """One safe fix for one host. Edits come first, then the commands, all as root.

    `undo` are the commands that take the commands back; edited files have a copy of what they were beside them.
    `note` says what the fix does not do.
    """

    id: str  # the catalogue's `prepare`
    finding: str
    what: str
    why: str
    edits: tuple[Edit, ...] = ()
    commands: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    note: str = ""
    changes: bool = field(default=True, init=False)

    @property
    def lines(self) -> tuple[str, ...]:
        """What will be done, exactly, for people."""
        return (*(f"write {edit.path}: {edit.says}" for edit in self.edits), *map(shlex.join, self.commands))

    @property
    def undo_lines(self) -> tuple[str, ...]:
        """How it is taken back, for people."""
        return (*map(_back, self.edits), *map(shlex.join, self.undo))

    @property
    def details(self) -> tuple[str, ...]:
        """All that a plan has to say of it beside what and why."""
        note = (f"note: {self.note}",) if self.note else ()
        return (*self.lines, *(f"undo: {line}" for line in self.undo_lines), *note)


def _back(edit: Edit) -> str:
    if isinstance(edit, Place):  # planned only where there is no such file
        return f"rm {edit.path}"
    return f"mv {edit.path}{BACKUP}.N {edit.path}, or rm {edit.path} where there was none"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result
