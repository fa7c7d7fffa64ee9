"""What is new since the last good night, in words: commits, bases and tags, and what somebody changed in the inventory. Pure."""

from collections.abc import Mapping
from typing import Any

from fleet.image.lock import Lock
from fleet.image.source import History
from fleet.inventory.settings import Image, Source

SHORT = 12  # digits of a commit or a digest


def of_history(source: Source, old: str, new: str, found: History) -> str:
    """One sentence of a ref that is another commit now."""
    moved = f"{source.ref} of {source.repository}: {old[:SHORT]} → {new[:SHORT]}"
    if found.tag:
        moved = f"the tag {moved}: a tag that was moved"
    if not found.known:
        return f"{moved}; the old commit is not there any more, so what came between cannot be told"
    if found.on_top:
        return f"{moved}, {_many(len(found.commits), 'commit')} on top"
    return (
        f"{moved}; upstream rewrote its history: {_many(len(found.dropped), 'commit')} of the last good one "
        f"dropped, {_many(len(found.commits), 'commit')} new"
    )


def of_locks(old: Lock, new: Lock) -> tuple[str, ...]:
    """Tags and bases that mean another image now. What one of the locks does not know is no change."""
    told = []
    for before, after, what in (
        (old.images, new.images, ""),
        (old.local, new.local, ", on the builder alone"),
        (old.archives, new.archives, ""),
    ):
        told += [
            f"{name}{what}: {before[name][: SHORT + 7]} → {digest[: SHORT + 7]}"
            for name, digest in sorted(after.items())
            if name in before and before[name] != digest
        ]
    told += [
        f"{name}: from the builder alone to its registry's" for name in sorted(old.local.keys() & new.images.keys())
    ]
    told += [
        f"{name}: from its registry's to the builder alone" for name in sorted(old.images.keys() & new.local.keys())
    ]
    return tuple(told)


def recipe(image: Image, patches: tuple[str, ...]) -> dict[str, Any]:
    """What the inventory says of an image, to be compared with what it says in another night."""
    plain = {"prebuilt": image.prebuilt, "archive": image.archive}
    if image.source is None:
        return plain
    source = image.source
    base = source.base
    return plain | {
        "repository": source.repository,
        "ref": source.ref,
        "Dockerfile": source.dockerfile,
        "target": source.target,
        "BASE_IMAGE": source.base_image,
        "args": dict(source.args),
        "base": {"Dockerfile": base.build, "target": base.target, **base.args} if base else {},
        "patches": {path: digest[:SHORT] for path, digest in zip(source.patches, patches, strict=True)},
        "gfx": " ".join(source.gfx),
    }


def of_recipes(image: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What somebody changed in the inventory since the last good night."""
    told = []
    words = {"args": "build argument", "base": "base", "patches": "patch"}
    for name in new.keys() | old.keys():
        before, after = old.get(name, ""), new.get(name, "")
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            sides = [one if isinstance(one, Mapping) else {} for one in (before, after)]
            keys = sorted(sides[0].keys() | sides[1].keys())
            pairs = [(f"{words.get(name, name)} {key}", *(str(side.get(key, "")) for side in sides)) for key in keys]
        else:
            pairs = [(name, str(before), str(after))]
        told += [f"{image}: {what} {was or 'none'} → {now or 'none'}" for what, was, now in pairs if was != now]
    return tuple(sorted(told))


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
