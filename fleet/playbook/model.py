"""A playbook as frozen values: plays, their limits, and the stages with their arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from fleet.inventory.nodes import Place
from fleet.inventory.settings import EMPTY

Rounding = Literal["up", "down"]


@dataclass(frozen=True)
class Amount:
    """So many, or so many of each hundred. `value` is never negative."""

    value: int
    percent: bool = False

    def of(self, total: int, rounding: Rounding) -> int:
        """How many of `total` that are. What must remain rounds up, what may be lost rounds down."""
        if not self.percent:
            return self.value
        share = self.value * total
        return -(-share // 100) if rounding == "up" else share // 100

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


@dataclass(frozen=True)
class Preflight:
    """Judge the hosts; with `strict` warnings stop one as well. `accept`: finding id -> reason, for this play."""

    name: ClassVar[str] = "preflight"
    strict: bool = False
    accept: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Prepare:
    """Carry out the catalogue's safe fixes; `only` names the ids of fixes, empty means all."""

    name: ClassVar[str] = "prepare"
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """Have the images: made, found or brought. `update` resolves floating refs anew and moves the lock.

    `bundle`: they come from the run's bundle, and without one the play is refused.
    """

    name: ClassVar[str] = "image"
    update: bool = False
    bundle: bool = False


@dataclass(frozen=True)
class Models:
    """Bring the services' models to the hosts. `source` is a directory here, or on the hosts (`host:/DIR`); `hf` a
    repository of Hugging Face that they get it from; neither is the run's bundle.

    `names` are brought whatever the services ask for; empty are the services' own. `wait` is in seconds, for services that
    are starting from a model that is to be switched.
    """

    name: ClassVar[str] = "models"
    source: str = ""
    names: tuple[str, ...] = ()
    wait: float = 1800.0
    revision: str = ""
    hf: str = ""
    token_file: str = ""  # on the hosts
    endpoint: str = ""
    update: bool = False  # resolve the revision anew, and move the lock


@dataclass(frozen=True)
class Distribute:
    """Bring the images to the hosts."""

    name: ClassVar[str] = "distribute"


@dataclass(frozen=True)
class Serve:
    """Replace containers. `prune`: remove replicas that the inventory no longer has. `take_over`: foreign containers."""

    name: ClassVar[str] = "serve"
    prune: bool = False
    take_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verify:
    """Ask every replica; `load` is in seconds of fixed load, 0 asks only."""

    name: ClassVar[str] = "verify"
    load: float = 0.0


@dataclass(frozen=True)
class Prune:
    """Remove images that this tool brought and no service needs; `keep` newest releases of a service stay."""

    name: ClassVar[str] = "prune"
    keep: int = 2


Stage = Preflight | Prepare | Image | Models | Distribute | Serve | Verify | Prune
STAGES: tuple[type[Stage], ...] = (Preflight, Prepare, Image, Models, Distribute, Serve, Verify, Prune)


@dataclass(frozen=True)
class Play:
    """Stages for the hosts of a pattern. Times are seconds.

    `canary` is a number of hosts or a pattern; 0 is none. `serial` is empty for all at once. `min_available` counts the
    replicas of each service over the fleet; None takes one host of a service at a time. `new_hosts_together`: hosts on which
    nothing serves go side by side, behind the canary, or all at once where nothing serves at all. `min_healthy_time`: a replica counts as healthy only after so long.
    `progress_deadline`: a start without progress for so long has failed; None leaves each service its own limit.
    """

    name: str
    stages: tuple[Stage, ...]
    hosts: str = "all"
    serial: tuple[Amount, ...] = ()
    canary: int | str = 0
    max_fail: Amount = Amount(0)
    min_available: Amount | None = None
    new_hosts_together: bool = False
    min_healthy_time: float = 10.0
    progress_deadline: float | None = None
    pause: float = 0.0
    place: Place = field(default_factory=lambda: Place(""))


@dataclass(frozen=True)
class Playbook:
    """Plays, in order, and the file that they were read from."""

    path: Path
    plays: tuple[Play, ...]
