"""Short names for many hosts."""

import re
import shlex
from collections.abc import Iterable

LIMIT = "--limit "
# In gpu-01.dc1 hosts differ by the last number of the first label; in addresses by the very last.
_NUMBERED = re.compile(r"((?:\d+\.)+(?=\d+$)|[^.]*\D|)(\d+)([^\d.]*(?:\..*)?)")


def fold(names: Iterable[str]) -> str:
    """Host names with runs of numbers written as Ansible ranges: `mi300x-[01:04].dc1, mi250-01`."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    single: list[str] = []
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found:
            head, digits, tail = found.groups()
            groups.setdefault((head, tail, len(digits)), []).append(int(digits))
        else:
            single.append(name)
    folded = [
        _range(head, tail, width, run)
        for (head, tail, width), numbers in groups.items()
        for run in runs(sorted(set(numbers)))
    ]
    return ", ".join([*folded, *single])


def of_any(hint: str, host: str) -> str:
    """A next command without the host that it ends in, so that hosts with the same trouble stand together."""
    return hint.removesuffix(host) if hint.endswith(f"{LIMIT}{host}") else hint


def of_all(hint: str, hosts: Iterable[str]) -> str:
    """What `of_any` made, as one command over all the hosts."""
    if not hint.endswith(LIMIT):
        return hint
    names = fold(hosts).replace(" ", "")
    return f"{hint}{shlex.quote(names)}"


def _range(head: str, tail: str, width: int, run: tuple[int, int]) -> str:
    first, last = (f"{number:0{width}d}" for number in run)
    return f"{head}{first}{tail}" if first == last else f"{head}[{first}:{last}]{tail}"


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of every row of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
