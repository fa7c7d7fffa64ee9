"""Host names with ranges, as Ansible expands them: `h[01:16]`, `[a:d]`, `[0:10:2]`, several in one name, and ports."""

import re
import string
from collections.abc import Iterator

MAX_HOSTS = 20_000
_RANGE = re.compile(r"\[([^\[\]:]*):([^\[\]:]*)(?::([^\[\]:]*))?\]")
_PORT = re.compile(r"^(?P<name>.+):(?P<port>\d{1,5})$")
_BRACKETED = re.compile(r"^\[(?P<name>[0-9A-Fa-f:.%]*:[0-9A-Fa-f:.%]+)\](?::(?P<port>\d{1,5}))?$")


class RangeError(ValueError):
    """A range that cannot be meant; str() says why."""


def expand(pattern: str) -> tuple[tuple[str, ...], int | None]:
    """Names and port of one key below `hosts:`. Raises RangeError."""
    name, port = split_port(pattern)
    names: list[str] = []
    for one in _expand(name):
        names.append(one)
        if len(names) > MAX_HOSTS:
            raise RangeError(f"expands to more than {MAX_HOSTS} hosts")
    return tuple(names), port


def split_port(text: str) -> tuple[str, int | None]:
    """`h:2222` and `[::1]:22`; colons inside brackets are a range's, and a bare IPv6 address has no port."""
    if found := _BRACKETED.match(text):
        return found["name"], int(found["port"]) if found["port"] else None
    bare = _RANGE.sub("x", text)
    if bare.count(":") == 1 and (found := _PORT.match(bare)):
        return text[: text.rindex(":")], int(found["port"])
    return text, None


def _expand(text: str) -> Iterator[str]:
    found = _RANGE.search(text)
    if not found:
        if "[" in text or "]" in text:
            raise RangeError("has a bracket that is no range")
        yield text
        return
    head, tail = text[: found.start()], text[found.end() :]
    for middle in _steps(found[1], found[2], found[3]):
        for rest in _expand(tail):
            yield f"{head}{middle}{rest}"


def _steps(first: str, last: str, step_text: str | None) -> Iterator[str]:
    first = first or "0"
    if not last:
        raise RangeError("has a range without an end")
    if step_text is not None and not step_text.isdigit():
        raise RangeError(f"has a step that is no number: {step_text!r}")
    step = int(step_text or 1)
    if step < 1:
        raise RangeError("has a step of 0")
    if first.isdigit() and last.isdigit():
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        if width and len(first) != len(last):
            raise RangeError(f"must have as many digits in {last} as in {first}")
        if int(first) > int(last):
            raise RangeError(f"counts down from {first} to {last}")
        yield from (f"{number:0{width}d}" for number in range(int(first), int(last) + 1, step))
        return
    letters = string.ascii_letters
    if first not in letters or last not in letters or len(first) != 1 or len(last) != 1:
        raise RangeError(f"cannot count from {first} to {last}")
    low, high = letters.index(first), letters.index(last)
    if low > high:
        raise RangeError(f"counts down from {first} to {last}")
    yield from letters[low : high + 1 : step]
