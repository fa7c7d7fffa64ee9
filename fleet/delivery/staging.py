"""What of a sideload lies on a host already: blobs in a directory of ours, kept until the engine has them. Pure.

DIR/sideload/                     0700, the login user's or root's; DIR is `staging_dir`
    blobs/HEX, blobs/HEX.part     a layer that came whole and was checked; one that is under way
    images/CONFIG/name            the image that the layers are for; its mtime is the last try
    images/CONFIG/needs           `HEX SIZE`, a line for each layer that has to come
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.delivery.scripts import MARK

BLOCK = 1 << 16  # bytes; a transfer goes on at a multiple of this, so that dd can seek there
_HEX = re.compile(r"[0-9a-f]{64}$")


@dataclass(frozen=True)
class StagedImage:
    """A sideload that was begun. `age` is in seconds since its last try, by the host's clock; `needs` is digest -> size."""

    config: str
    name: str
    age: float
    needs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Staging:
    """`directory` is where we may stage (empty = nowhere), with `free` bytes on its disk; digests are `sha256:…`."""

    directory: str = ""
    free: int = 0
    whole: Mapping[str, int] = field(default_factory=dict)  # digest -> bytes
    parts: Mapping[str, int] = field(default_factory=dict)  # digest -> bytes that came so far
    images: tuple[StagedImage, ...] = ()

    def there(self, digest: str, size: int) -> int:
        """Bytes of a blob that need not be sent; what cannot be right counts as nothing."""
        if self.whole.get(digest) == size:
            return size
        part = self.parts.get(digest, 0)
        return part if part <= size else 0

    def held(self, image: StagedImage) -> int:
        """Bytes that are there for an image."""
        return sum(self.there(digest, size) for digest, size in image.needs.items())


def parse(lines: Iterable[str]) -> Staging:
    """What LOOK printed; lines that are not its own are passed over."""
    directory, free, now = "", 0, 0
    whole: dict[str, int] = {}
    parts: dict[str, int] = {}
    names: dict[str, tuple[str, int]] = {}
    needs: dict[str, dict[str, int]] = {}
    for line in lines:
        mark, _, rest = line.partition(" ")
        match rest.split(" ", 3) if mark == MARK else ():
            case ("place", *_):
                directory = rest.partition(" ")[2]
            case ("free", blocks) if blocks.isdecimal():
                free = int(blocks) * 1024
            case ("now", seconds) if seconds.isdecimal():
                now = int(seconds)
            case ("blob", size, name) if size.isdecimal() and _HEX.match(name.removesuffix(".part")):
                digest = f"sha256:{name.removesuffix('.part')}"
                (parts if name.endswith(".part") else whole)[digest] = int(size)
            case ("image", config, seconds, name) if _HEX.match(config) and seconds.isdecimal():
                names[config] = name, int(seconds)
            case ("need", config, value, size) if _HEX.match(value) and size.isdecimal():
                needs.setdefault(config, {})[f"sha256:{value}"] = int(size)
    images = tuple(
        StagedImage(f"sha256:{config}", name, max(now - seconds, 0), needs.get(config, {}))
        for config, (name, seconds) in sorted(names.items())
    )
    return Staging(directory, free, whole, parts, images)


def right_prefix(size: int, same: Callable[[int], bool]) -> int:
    """How many of the first `size` bytes on the host are right, as a multiple of BLOCK; `same(n)` compares the first n.

    One comparison where all is well. Where not, halves until the place is known to a block: what follows a wrong byte
    counts as wrong too.
    """
    high = size // BLOCK
    if not high or same(high * BLOCK):
        return high * BLOCK
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle * BLOCK) else (low, middle)
    return low * BLOCK


def blobs_of(directory: str) -> str:
    """Where a staging directory has its blobs."""
    return f"{directory}/sideload/blobs"


def hexes(digests: Sequence[str]) -> tuple[str, ...]:
    return tuple(digest.removeprefix("sha256:") for digest in digests)
