"""`payload.py MEGABYTES SEED FILE`: bytes that do not compress and are the same every time; no file for 0."""

import random
import sys
from pathlib import Path

MEGABYTE = 1 << 20


def write(megabytes: int, seed: str, target: Path) -> None:
    """In pieces of a megabyte."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with target.open("wb") as out:
        for _ in range(megabytes):
            out.write(chance.randbytes(MEGABYTE))


if __name__ == "__main__":
    if int(sys.argv[1]):
        write(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
