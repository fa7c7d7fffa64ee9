"""What images a host holds, as values, from `GET /images/json` and `GET /images/ID/json` of either image store.

The same release has different image IDs on different hosts: the classic store's ID is the config digest, the containerd
store's the manifest digest. So an image is recognised by its diffIDs with its config digest or a repo digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HeldImage:
    """One image: `names` are its tags (`NAME:TAG`), `repo_digests` its `NAME@sha256:…`."""

    id: str
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    diff_ids: tuple[str, ...]

    @classmethod
    def from_inspect(cls, data: Mapping[str, Any]) -> "HeldImage":
        """From an image inspection; API 1.52 leaves empty fields out."""
        layers = (data.get("RootFS") or {}).get("Layers") or ()
        return cls(data["Id"], tuple(data.get("RepoTags") or ()), tuple(data.get("RepoDigests") or ()), tuple(layers))


@dataclass(frozen=True)
class Holdings:
    """All images of one host. `containerd_store`: the engine keeps images in containerd (default from Docker 29)."""

    images: tuple[HeldImage, ...]
    containerd_store: bool = False

    def find(self, digests: Sequence[str], diff_ids: Sequence[str]) -> HeldImage | None:
        """The image with these layers whose ID or repo digest is one of `digests` (config or manifest)."""
        for image in self.images:
            known = {image.id, *(name.rpartition("@")[2] for name in image.repo_digests)}
            if image.diff_ids == tuple(diff_ids) and known & set(digests):
                return image
        return None

    @property
    def chains(self) -> frozenset[tuple[str, ...]]:
        """Every chain of layers, from the bottom, that the host has unpacked."""
        return frozenset(image.diff_ids[:depth] for image in self.images for depth in range(1, len(image.diff_ids) + 1))

    def missing_layers(self, diff_ids: Sequence[str]) -> tuple[int, ...]:
        """Indexes of the layers that must travel: all above the longest chain that the host has.

        A classic store finds a layer only on top of the same layers below it, so a match in the middle does not count.
        """
        have = 0
        while have < len(diff_ids) and tuple(diff_ids[: have + 1]) in self.chains:
            have += 1
        return tuple(range(have, len(diff_ids)))
