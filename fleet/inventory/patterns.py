"""Ansible's host patterns: unions, `&`, `!`, globs, `~regex`, `group[0]`, inclusive slices, `@file`; and our own ranges."""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fleet.errors import UsageError
from fleet.inventory.model import Host, Inventory
from fleet.inventory.names import BadRangeError, expand, split_address

_SUBSCRIPT = re.compile(r"^(.+)\[(?:(-?[0-9]{1,9})|([0-9]{1,9})[:-]([0-9]{0,9}))\]$")
_RANGE = re.compile(r"\[[0-9]+:[0-9]+\]")
_PIECE = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")


def select(inventory: Inventory, pattern: str) -> tuple[Host, ...]:
    """The hosts that a `--limit` names, in Ansible's order. Raises UsageError for an empty result."""
    parts: list[str] = []
    for part in split(pattern):
        parts += _lines(part[1:]) if part.startswith("@") else [part]
    if not parts:  # never all hosts by a slip of the pen, or by a variable that is not set
        raise UsageError(f"the host pattern {pattern!r} names nothing", hint="`all` means every host")
    names = match(inventory.hosts, inventory.groups, parts)
    if not names:
        raise UsageError(f"no host matches {pattern!r}", hint=_known(inventory, parts))
    return tuple(inventory.hosts[name] for name in names)


def split(pattern: str) -> list[str]:
    """The single patterns of a union. A comma separates; without one a colon does, unless it is part of a name."""
    if "," in pattern:
        parts: Sequence[str] = pattern.split(",")
    elif split_address(pattern):
        parts = [pattern]
    else:
        parts = _PIECE.findall(pattern)
    return [part.strip() for part in parts if part.strip()]


def match(hosts: Iterable[str], groups: Mapping[str, tuple[str, ...]], parts: Sequence[str]) -> list[str]:
    """Names for single patterns: unions first, then `&`, then `!`, whatever their order."""
    names = dict.fromkeys(hosts)
    plain = [part for part in parts if part and part[0] not in "&!"]
    both = [part[1:] for part in parts if part.startswith("&")]
    without = [part[1:] for part in parts if part.startswith("!")]
    found: dict[str, None] = {}
    for part in plain or ["all"]:
        found.update(dict.fromkeys([part] if part in names else _one(names, groups, part)))
    for part in both:
        keep = set(_one(names, groups, part))
        found = {name: None for name in found if name in keep}
    for part in without:
        drop = set(_one(names, groups, part))
        found = {name: None for name in found if name not in drop}
    return list(found)


def _one(hosts: Mapping[str, None], groups: Mapping[str, tuple[str, ...]], part: str) -> list[str]:
    if not part:
        raise UsageError("a host pattern is empty after its & or !")
    subscript = None if part.startswith("~") else _SUBSCRIPT.match(part)
    expression = subscript.group(1) if subscript else part
    found = _matches(hosts, groups, expression)  # Ansible counts a host once per group that matched
    if not found or (not subscript and _RANGE.search(part)):
        return _range(hosts, part) or found
    if not subscript:
        return found
    _, index, start, end = subscript.groups()
    if index:
        if not -len(found) <= int(index) < len(found):
            raise UsageError(f"{part!r}: {expression} has {len(found)} hosts, there is no number {index}")
        return [found[int(index)]]
    if end and int(end) == 0:  # Ansible reads [x:0] as the single host x
        return found[int(start) : int(start) + 1]
    return found[int(start) : int(end) + 1 if end else None]


def _range(hosts: Mapping[str, None], part: str) -> list[str]:
    """`n[01:04].dc1`, as our own reports name many hosts, so that it can be pasted.

    Ansible matches nothing there, or by a set of the characters 0, 1, 4 and `:`, which nobody means.
    """
    if part.startswith("~") or not _RANGE.search(part):
        return []
    try:
        return [name for name in expand(part)[0] if name in hosts]
    except BadRangeError:
        return []


def _matches(hosts: Mapping[str, None], groups: Mapping[str, tuple[str, ...]], expression: str) -> list[str]:
    try:
        regex = re.compile(expression[1:] if expression.startswith("~") else fnmatch.translate(expression))
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{expression!r} is not a valid host pattern: {error}") from error
    matching = [name for name in groups if regex.match(name)]
    found = [host for group in matching for host in groups[group]]
    if not matching or expression.startswith("~") or any(char in expression for char in ".?*["):
        found += [name for name in hosts if regex.match(name)]
    return found


def _lines(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the limit file {path} cannot be read: {error}") from error
    return [line for line in lines if line]


def _known(inventory: Inventory, parts: Sequence[str]) -> str:
    names = [*inventory.groups, *inventory.hosts]
    for part in parts:
        bare = part.lstrip("&!~").partition("[")[0]
        if bare not in names and (close := difflib.get_close_matches(bare, names, 1, 0.6)):
            return f"did you mean {close[0]}? Groups: {', '.join(list(inventory.groups)[:20])}"
    return f"groups: {', '.join(list(inventory.groups)[:20])}"
