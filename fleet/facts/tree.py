"""A captured tree as the probe may read it: links that lead out of it are followed inside it, as after a chroot.

What somebody's `tar` brought may hold links like /sys/devices/…, and followed from here they would show this machine.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

PLACES = ("dev", "etc", "opt", "proc", "run", "sys", "var")  # where the probe looks, and in the models' directory
_LINKS = 40  # of one path, as in Linux


@contextmanager
def confined(root: Path, models_dir: str) -> Iterator[Path]:
    """The tree itself; where a link leads out of it, a directory of links to its files in which none does."""
    root = root.resolve()
    places = [_first_link(root, place) for place in (*PLACES, models_dir.strip("/")) if place]
    if not any(_leaves(root, link) for place in places for link in _links(root, place)):
        yield root
        return
    with TemporaryDirectory(prefix="fleet-tree-") as folder:
        copy = Path(folder).resolve()
        _mirror(root, copy, places)
        yield copy


def inside(root: Path, path: str) -> str | None:
    """Where a path of the tree leads when the tree is all there is, without links in it; None where it leads nowhere."""
    todo, links = path.split("/")[::-1], 0
    done: list[str] = []
    while todo:
        part = todo.pop()
        here = root.joinpath(*done, part)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
        elif here.is_symlink():
            links += 1
            target = str(here.readlink())
            done = [] if target.startswith("/") else done
            todo += target.split("/")[::-1]
        else:
            done.append(part)
        if links > _LINKS or not root.joinpath(*done).exists():
            return None
    return "/".join(done)


def _first_link(root: Path, place: str) -> str:
    """The place, or the link on the way to it, with which all that it leads to is looked at."""
    ways = accumulate(place.split("/"), lambda before, name: f"{before}/{name}")
    return next((way for way in ways if (root / way).is_symlink()), place)


def _links(root: Path, place: str) -> Iterator[str]:
    if (root / place).is_symlink():
        yield place
    for folder, names, files in os.walk(root / place):
        here = os.path.relpath(folder, root)
        names[:] = _asked(here, names)
        yield from (f"{here}/{name}" for name in (*names, *files) if Path(folder, name).is_symlink())


def _asked(folder: str, names: Iterable[str]) -> list[str]:
    """Nobody asks a tree for its processes, and a mounted node has many."""
    return [name for name in names if not (folder == "proc" and name.isdigit())]


def _leaves(root: Path, link: str) -> bool:
    return not Path(os.path.realpath(root / link)).is_relative_to(root)


def _mirror(root: Path, copy: Path, places: Iterable[str]) -> None:
    """Directories as such, files as links to the tree's own, links as links within the copy."""
    todo, seen = list(places), {""}
    while todo:
        name = todo.pop()
        real, made = root / name, copy / name
        if name in seen or not os.path.lexists(real):
            continue
        seen.add(name)
        made.parent.mkdir(parents=True, exist_ok=True)
        if real.is_symlink():
            target = inside(root, name)
            made.symlink_to(copy / ("nowhere" if target is None else target))
            todo += [] if target is None else [target]
        elif real.is_dir():
            made.mkdir(exist_ok=True)
            entries = [entry.name for entry in real.iterdir()] if os.access(real, os.R_OK) else []
            todo += [f"{name}/{entry}" for entry in _asked(name, entries)]
        else:
            made.symlink_to(real)
