"""What there is to prune on one host, as values: containers, images, cache volumes, staging, room; and the steps. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.delivery.plan import NOTHING_STAGED
from fleet.delivery.staging import Staging
from fleet.rollout.census import Listed
from fleet.rollout.past import Past
from fleet.serving.inspection import KEPT
from fleet.serving.spec import LABEL

CACHE = re.compile(r"fleet-cache-(?P<release>[0-9a-f]{12})-(?P<gfx>gfx[0-9a-z]+|)-(?P<model>.*)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Box:
    """A container, ours or anybody's. `image` is an ID, `volumes` are the names of those that it mounts."""

    id: str
    name: str
    state: str  # running, exited, …
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Box":
        """From one entry of `GET /containers/json`."""
        names = [name.lstrip("/") for name in entry.get("Names") or ()]
        mounts = [one for one in entry.get("Mounts") or () if one.get("Type") == "volume"]
        return cls(
            str(entry["Id"]),
            next(iter(names), str(entry["Id"])[:12]),
            str(entry.get("State", "")),
            str(entry.get("ImageID", "")),
            dict(entry.get("Labels") or {}),
            tuple(str(one.get("Name", "")) for one in mounts),
        )

    @property
    def service(self) -> str:
        """Empty for what is not ours: the label is the proof, never the name."""
        return self.labels.get(f"{LABEL}service", "")

    @property
    def release(self) -> str:
        return self.labels.get(f"{LABEL}release", "")

    @property
    def kept(self) -> bool:
        """Waits for a roll-back. One that somebody started again does not wait."""
        return bool(self.service) and self.name.endswith(KEPT) and self.state in ("created", "exited", "dead")


@dataclass(frozen=True)
class Room:
    """The file system of Docker's root directory, in bytes."""

    used: int = 0
    free: int = 0


@dataclass(frozen=True)
class HostFacts:
    """One host as it was read."""

    images: tuple[Listed, ...] = ()
    boxes: tuple[Box, ...] = ()
    volumes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)  # of cache volumes, in bytes, as far as they can be seen
    past: Past = field(default_factory=Past)
    staging: Staging = NOTHING_STAGED
    room: Room = Room()


@dataclass(frozen=True)
class Policy:
    """What stays, beside what the host itself tells. `keep`: newest releases of each image, `staging` in seconds.

    `services` and `models` are those of this inventory on the host, `registries` where it pulls from, `wanted` are
    releases (ids) that somebody elsewhere needs, with why. `caches` is the most that cache volumes may have together,
    in bytes, 0 for no limit.
    """

    keep: int = 2
    staging: float = 7 * 86400.0
    services: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    registries: frozenset[str] = frozenset()
    wanted: Mapping[str, str] = field(default_factory=dict)
    caches: int = 0


@dataclass(frozen=True)
class RemoveContainer:
    """A stopped container of ours that no roll-back takes."""

    id: str
    name: str
    why: str
    size = 0

    @property
    def what(self) -> str:
        return f"remove container {self.name}"


@dataclass(frozen=True)
class RemoveImage:
    """Take our `references` off an image (its ID alone where it has none); not `whole`: others' names keep it.

    `size` is in bytes on the host's disk, 0 where the image stays.
    """

    image: str
    name: str
    references: tuple[str, ...]
    size: int
    why: str
    whole: bool = True

    @property
    def what(self) -> str:
        return f"remove image {self.name}" if self.whole else f"take our name off image {self.name}"

    @property
    def release(self) -> str:
        return self.name.rpartition(":")[2]


@dataclass(frozen=True)
class RemoveVolume:
    name: str
    why: str
    size: int = 0

    @property
    def what(self) -> str:
        return f"remove volume {self.name}"


@dataclass(frozen=True)
class SweepStaging:
    """Remove staged transfers that nobody goes on with. `configs` are config digests; `size` in bytes."""

    directory: str
    names: tuple[str, ...]
    configs: tuple[str, ...]
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove what is staged of {', '.join(self.names) or 'nothing'} in {self.directory}"


Step = RemoveContainer | RemoveImage | RemoveVolume | SweepStaging


@dataclass(frozen=True)
class Kept:
    """Something of ours that stays."""

    what: str
    why: str


@dataclass(frozen=True)
class PrunePlan:
    """`foreign` counts the images and containers that are not ours, which nobody looks at any closer.

    `needed` are the releases that the host needs (ids), with why.
    """

    steps: tuple[Step, ...] = ()
    kept: tuple[Kept, ...] = ()
    foreign: int = 0
    needed: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes at most; layers that another image has too stay."""
        return sum(step.size for step in self.steps)
