"""A Dockerfile's text -> its instructions. Pure; follows BuildKit's own reader (docs: Dockerfile reference, "Format").

Directives stand at the very top, comments vanish even inside a continued line, here-documents belong to their
instruction.
"""

import re
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][\w-]*)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"<<(-?)\s*(['\"]?)([A-Za-z_]\w*)\2")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_WITH_HEREDOC = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class Instruction:
    """One instruction. `flags` are its `--name=value` words in order; `rest` what follows them; `line` from 1."""

    keyword: str  # upper case
    flags: tuple[tuple[str, str], ...]
    rest: str
    line: int
    heredoc: bool = False


@dataclass(frozen=True)
class Text:
    directives: dict[str, str]
    instructions: tuple[Instruction, ...]


def read(text: str) -> Text:
    """All directives and instructions of a Dockerfile's text. Unknown keywords are kept; nothing is refused here."""
    lines = text.removeprefix("\ufeff").splitlines()
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    found: list[Instruction] = []
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].lstrip().startswith("#"):
            at += 1
            continue
        start = at
        joined, at = _joined(lines, at, escape)
        keyword, _, rest = joined.strip().partition(" ")
        ends = _heredocs(rest) if keyword.upper() in _WITH_HEREDOC else ()
        at = _skip_heredocs(lines, at, ends)
        flags, rest = _flags(rest.strip())
        found.append(Instruction(keyword.upper(), flags, rest, start + 1, bool(ends)))
    return Text(directives, tuple(found))


def _directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.match(line)
        if not match:
            break
        found[match[1].lower()] = match[2]
    return found


def _joined(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    """The instruction that starts at `at` as one line with single blanks for tabs, and the index after it."""
    parts: list[str] = []
    while at < len(lines):
        line = lines[at].rstrip()
        at += 1
        if parts and (not line or line.lstrip().startswith("#")):
            continue
        if not line.endswith(escape):
            parts.append(line)
            break
        parts.append(line[:-1])
    return re.sub(r"\s", " ", " ".join(parts)), at


def _heredocs(rest: str) -> tuple[tuple[str, bool], ...]:
    """The words that end each here-document of an instruction, and whether leading tabs are dropped before them."""
    return tuple((match[3], bool(match[1])) for match in _HEREDOC.finditer(re.sub(r"<<<\S*", "", rest)))


def _skip_heredocs(lines: list[str], at: int, ends: tuple[tuple[str, bool], ...]) -> int:
    for word, dash in ends:
        while at < len(lines):
            line = lines[at].lstrip("\t") if dash else lines[at]
            at += 1
            if line == word:
                break
    return at


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags: list[tuple[str, str]] = []
    while match := _FLAG.match(rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return tuple(flags), rest
