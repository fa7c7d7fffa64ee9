"""Whose a thing is that several inventories may share: a builder's image, a layout, a registry's release. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from fleet.image.release import Release

NOT_OURS = "nothing tells that this inventory had it made"


@dataclass(frozen=True)
class Owned:
    """Content keys, ids of releases and IDs of images: what this inventory had made, and what others of the controller."""

    mine: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()

    def has(self, *tokens: str) -> bool:
        return bool(self.mine.intersection(_plain(one) for one in tokens))

    def shares(self, *tokens: str) -> bool:
        return bool(self.others.intersection(_plain(one) for one in tokens))


def ours(owned: Owned, proven: Collection[str], known: Mapping[str, Release]) -> Owned:
    """With the releases (ids) that hosts of this inventory tell of, and everything that a release of ours is called by."""
    found = {*owned.mine, *proven}
    mine = [one for name, one in known.items() if name in found or one.content_key in owned.mine]
    words = {word for one in mine for word in (one.id, one.content_key, one.config_digest, one.manifest_digest)}
    return replace(owned, mine=frozenset(found | {_plain(word) for word in words if word}))


@dataclass(frozen=True)
class Leave:
    """Give up our claim on something that another inventory asked for too; it is that one's to remove."""

    name: str
    tokens: tuple[str, ...]
    why: str
    size = 0

    @property
    def what(self) -> str:
        return f"leave {self.name} to another inventory of this controller, which asked for it too"


def _plain(token: str) -> str:
    return token.removeprefix("sha256:")
