"""Ansible's host patterns: `web:&prod:!canary`, globs, `~regex`, `group[0:3]` (inclusive), `@file`, names.

Source: ansible InventoryManager.get_hosts; slices and their inclusive ends, _split_subscript and _apply_subscript.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fleet.errors import UsageError
from fleet.inventory.model import Host, Inventory

Groups = Mapping[str, tuple[str, ...]]

_SPLIT = re.compile(
    r"""(?: [^\s:,\[\]]                    # any character but separators and brackets
          | \[ [^\]]* \]                   # a bracketed part, with its colons
        )+ | (?<=~) """,
    re.VERBOSE,
)
_SUBSCRIPT = re.compile(
    r"^(?P<pattern>.+)\[(?:(?P<index>-?\d+)|(?P<first>-?\d+)?:(?P<last>-?\d+)?|(?P<start>-?\d+)-(?P<end>-?\d+))\]$"
)


def select(inventory: Inventory, pattern: str) -> tuple[Host, ...]:
    """The hosts of a pattern, in Ansible's order. Raises UsageError when there are none, naming what is near."""
    parts = _parts(pattern)
    names = _evaluate(parts, inventory.groups, tuple(inventory.hosts))
    if not names:
        raise UsageError(f"--limit {pattern!r} selects no host", hint=_near(inventory, parts))
    return tuple(inventory.hosts[name] for name in names)


def match(pattern: str, groups: Groups, hosts: Sequence[str]) -> list[str]:
    """The names that a pattern selects; none is fine."""
    return _evaluate(split(pattern), groups, hosts)


def split(pattern: str) -> list[str]:
    """Unions of a pattern: at commas, else at colons outside brackets. An IPv6 address stays whole."""
    pattern = pattern.strip()
    if "," in pattern:
        return [part.strip() for part in pattern.split(",") if part.strip()]
    if pattern.startswith("~") or _is_ipv6(pattern):
        return [pattern]
    return [part for part in _SPLIT.findall(pattern) if part]


def _is_ipv6(text: str) -> bool:
    return text.count(":") > 1 and re.fullmatch(r"[0-9A-Fa-f:.]+", text) is not None


def _parts(pattern: str) -> list[str]:
    if pattern.startswith("@"):
        try:
            lines = Path(pattern[1:]).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"--limit {pattern}: cannot read the file: {error.strerror}") from error
        return [part for line in lines if line.strip() for part in split(line.strip())]
    return split(pattern)


def _evaluate(parts: Sequence[str], groups: Groups, hosts: Sequence[str]) -> list[str]:
    """First the unions, then the intersections, then what is left out, whatever their order in the pattern."""
    unions = [part for part in parts if part[0] not in "!&"]
    intersections = [part[1:] for part in parts if part.startswith("&")]
    exclusions = [part[1:] for part in parts if part.startswith("!")]
    names: list[str] = []
    for part in unions or ["all"]:
        names += [name for name in _match(part, groups, hosts) if name not in names]
    for part in intersections:
        inside = set(_match(part, groups, hosts))
        names = [name for name in names if name in inside]
    for part in exclusions:
        outside = set(_match(part, groups, hosts))
        names = [name for name in names if name not in outside]
    return names


def _match(part: str, groups: Groups, hosts: Sequence[str]) -> list[str]:
    if part in hosts:
        return [part]
    pattern, found = part, None
    if not part.startswith("~") and (found := _SUBSCRIPT.match(part)):
        pattern = found["pattern"]
    names = _enumerate(pattern, groups, hosts)
    return _slice(names, found) if found else names


def _enumerate(pattern: str, groups: Groups, hosts: Sequence[str]) -> list[str]:
    if pattern in ("all", "*"):
        return list(groups.get("all", ()))
    names: list[str] = []
    matching = [group for group in groups if _like(pattern, group)]
    for group in matching:
        names += [name for name in groups[group] if name not in names]
    if not matching or pattern.startswith("~") or any(mark in pattern for mark in ".?*["):
        names += [name for name in hosts if _like(pattern, name) and name not in names]
    return names


def _like(pattern: str, name: str) -> bool:
    if not pattern.startswith("~"):
        return fnmatchcase(name, pattern)
    try:
        return re.match(pattern[1:], name) is not None
    except re.error as error:
        raise UsageError(f"--limit {pattern}: {error} is no regular expression that Python reads") from error


def _slice(names: list[str], found: re.Match[str]) -> list[str]:
    """Ansible's subscripts: one host, or an inclusive range; an end that is left out is the last host."""
    if not names:
        return []
    if found["index"] is not None:
        index = int(found["index"])
        return [names[index]] if -len(names) <= index < len(names) else []
    first = int(found["first"] or found["start"] or 0)
    last_text = found["last"] or found["end"]
    last = int(last_text) if last_text else len(names) - 1
    if last == -1:
        return names[first:]
    return names[first : last + 1]


def _near(inventory: Inventory, parts: Sequence[str]) -> str:
    known = [*inventory.groups, *inventory.hosts]
    for part in parts:
        if near := difflib.get_close_matches(part.lstrip("!&~"), known, 1):
            return f"did you mean {near[0]!r}?"
    groups = [group for group in inventory.groups if group not in ("all", "ungrouped")]
    return f"groups: {', '.join(groups[:12])}" if groups else f"hosts: {', '.join(list(inventory.hosts)[:12])}"
