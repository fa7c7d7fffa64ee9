"""What all plays of a run share."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fleet import awake
from fleet.inventory.model import Host
from fleet.playbook import Batch
from fleet.rollout.claims import Claims
from fleet.rollout.run import Outcome, Run
from fleet.rollout.stock import Stock


@dataclass(frozen=True)
class Serves:
    """How much of a service answers: `count` of `total` replicas; of those on the hosts `unknown` nobody can tell."""

    count: int
    total: int
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """`found` has an outcome for every host of the run; `peers` for hosts outside it.

    `on_batch` hears of each batch, `on_done(outcome)` of each host that a play is through with, `on_deed` of each whose
    replica has answered, from any thread. `proved` are hosts that the run which this one resumes was through with.
    """

    run: Run
    found: dict[str, Outcome]
    peers: Mapping[str, Outcome]
    hosts: Mapping[str, Host]  # of the run and its peers
    stock: Stock
    claims: Claims
    on_batch: Callable[[Batch, str], None] = lambda _batch, _name: None
    on_done: Callable[[Outcome], None] = lambda _outcome: None
    on_deed: Callable[[Outcome], None] = lambda _outcome: None
    sleep: Callable[[float], None] = awake.sleep
    proved: frozenset[str] = frozenset()
    serves: dict[str, Serves] = field(default_factory=dict)  # by service, at the end
    through: Counter[str] = field(default_factory=Counter)  # by host, the plays that it has behind it
