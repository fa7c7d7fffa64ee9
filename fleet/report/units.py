"""Bytes for people, in the units that disks and registries are told in; and texts from elsewhere, for terminals."""

import re

_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def size(count: float) -> str:
    """`512 B`, `3.4 MB`, `25 GB`: decimal units, two digits that matter."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def bytes_of(text: str) -> int:
    """The way back, of `1.2GB (80%)` as docker prints it and `50GB` as an inventory says it; 0 for what is no size."""
    found = re.match(r"\s*([0-9.]+)\s*([kKMGT]?B)", text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def visible(text: str) -> str:
    """A text from elsewhere as a terminal may have it: control characters are written out, lines stay lines."""
    plain = (one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)
    return "".join(plain)
