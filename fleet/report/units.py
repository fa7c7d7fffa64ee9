"""Bytes for people, in the units that disks and registries are told in."""


def size(count: float) -> str:
    """`512 B`, `3.4 MB`, `25 GB`: decimal units, two digits that matter."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
