"""Host names as Ansible reads them: `name:port`, and ranges such as `h[01:16]`, `[a:d]`, `x[0:8:2]`."""

import ipaddress
import re
import string
from collections.abc import Iterator

MAX_HOSTS = 10_000  # of one inventory: beyond that a range was surely mistyped

_RANGE = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_LABEL = rf"(?:\w|{_RANGE})(?:[\w-]|{_RANGE})*(?<![_-])"
_HOSTNAME = re.compile(rf"^{_LABEL}(?:\.{_LABEL})*$", re.IGNORECASE)
_HEX_RANGE = re.compile(r"\[[0-9a-f]+:[0-9a-f]+(?::[0-9]+)?\]", re.IGNORECASE)
_BRACKETED_PORT = re.compile(r"^\[(.+)\]:([0-9]+)$")
_PORT = re.compile(r"^((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)$")


class BadRangeError(ValueError):
    """A host pattern of an inventory that cannot be expanded."""


def split_address(text: str) -> tuple[str, int | None] | None:
    """(host or range, port) or None where Ansible sees no network name; an IPv6 port needs brackets."""
    host, port = text, None
    for pattern in (_BRACKETED_PORT, _PORT):
        if found := pattern.match(host):
            host, digits = found.groups()
            port = int(digits[:9])
    return (host, port) if host and (_HOSTNAME.match(host) or _is_ipv6(host)) else None


def expand(text: str) -> tuple[list[str], int | None]:
    """Every host that a key below `hosts:` stands for, and the port that all of them get."""
    host, port = split_address(text) or (text, None)
    names: list[str] = []
    for name in _expand(host, 0):
        names.append(name)
        if len(names) > MAX_HOSTS:
            raise BadRangeError(f"the range makes more than {MAX_HOSTS} hosts")
    if not names:
        raise BadRangeError("the range is empty: its begin lies after its end")
    return names, port


def _expand(text: str, depth: int) -> Iterator[str]:
    if "[" not in text:
        yield text
        return
    if depth > 16:
        raise BadRangeError("too many ranges in one name")
    head, _, rest = text.partition("[")
    inner, closed, tail = rest.partition("]")
    if not closed:
        raise BadRangeError("a range has no closing bracket")
    for part in _sequence(inner):
        yield from _expand(f"{head}{part}{tail}", depth + 1)


def _sequence(inner: str) -> Iterator[str]:
    bounds = inner.split(":")
    if len(bounds) not in (2, 3):
        raise BadRangeError("a host range must be begin:end or begin:end:step")
    begin, end = bounds[0] or "0", bounds[1]
    if not end:
        raise BadRangeError("a host range must say its end")
    width = len(begin) if begin[0] == "0" and len(begin) > 1 else 0
    if width and width != len(end):
        raise BadRangeError("begin and end of a host range must have the same length")
    letters = string.ascii_letters
    try:
        step = int(bounds[2]) if len(bounds) == 3 else 1
        if step < 1:
            raise BadRangeError("the step of a host range must be 1 or more")
        if begin in letters and end in letters:
            first, last = letters.index(begin), letters.index(end)
            if first > last:
                raise BadRangeError("a host range must begin before it ends")
            yield from letters[first : last + 1 : step]
        else:
            yield from (str(number).zfill(width) for number in range(int(begin), int(end) + 1, step))
    except BadRangeError:
        raise
    except ValueError as error:
        raise BadRangeError("a host range counts numbers or single letters") from error


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(_HEX_RANGE.sub("0", host)).version == 6
    except ValueError:
        return False
