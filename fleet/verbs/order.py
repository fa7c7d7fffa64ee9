"""What a verb asks of a roll, and --resume and --only-failed, which take that from an earlier run."""

from dataclasses import dataclass, replace

from fleet.errors import UsageError
from fleet.inventory import load, select
from fleet.journal import RunHeader, RunStory, latest, only_failed, read, remaining, unfinished_chain
from fleet.journal.header import DONE
from fleet.options import Options
from fleet.playbook import Playbook
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.goback import Back
from fleet.verbs.cargo import Cargo
from fleet.verbs.common import ROOT


@dataclass(frozen=True)
class Order:
    """What a verb asks for. `stages` keeps only these of the playbook; `resume` is a run's id, `last`, or empty.

    `back` takes the releases from the hosts' own past instead of making them by the inventory, `cargo` from a bundle.
    `lock` is the path of a lock that counts in the place of the inventory's, `night` the id of the night that asks.
    `rehash` believes no list of checksums on a host; without `gate` findings keep no host out. `proved` are hosts that
    the run which this one resumes was through with.
    """

    verb: str = "deploy"
    playbook: str = "deploy"
    stages: frozenset[str] = frozenset()
    sideload: bool = False  # over SSH whatever the inventory says
    prune: bool = False
    take_over: frozenset[str] = frozenset()
    lock_wait: float = 0.0  # seconds
    include_quarantined: bool = False
    resume: str = ""
    only_failed: bool = False
    list_stages: bool = False
    list_hosts: bool = False
    back: Back | None = None
    cargo: Cargo | None = None
    lock: str = ""
    night: str = ""
    plays: Playbook | None = None  # instead of the file `playbook`
    rehash: bool = False
    gate: bool = True
    proved: frozenset[str] = frozenset()


def from_earlier(options: Options, order: Order) -> tuple[Options, Order, str]:
    """--resume and --only-failed: which hosts of which earlier run, as a limit, and that run's flags unless given again.

    --resume takes the hosts that the run (and those it continues) was not through with; --only-failed the failed ones
    too. Raises UsageError when none is left.
    """
    if not order.resume and not order.only_failed:
        return options, order, ""
    story = _earlier(order)
    flags = story.header.flags
    pick = only_failed if order.only_failed else (lambda one: remaining(one).hosts)
    left = set(unfinished_chain(ROOT, story, pick))
    options = replace(options, inventory=options.inventory or story.header.inventory)
    inventory = load(options.inventory)
    for name in sorted(left - set(inventory.hosts)):
        terminal.event(name, "left out: it is not in the inventory any more")
    names = [host.name for host in select(inventory, options.limit) if host.name in left]
    if not names:
        raise UsageError(f"run {story.id} left no host to go on with", hint=f"invoke runs.show {story.id}")
    terminal.event("fleet", f"goes on from run {story.id} with {fold(names)}")
    cargo = order.cargo or Cargo.of_flags(flags.get("bundle"))
    order = replace(
        order,
        playbook=str(flags.get("playbook", order.playbook)),
        cargo=cargo,
        stages=order.stages or frozenset(flags.get("stages", ())),
        prune=order.prune or flags.get("prune") is True,
        take_over=order.take_over or frozenset(flags.get("take_over", ())),
        include_quarantined=order.include_quarantined or flags.get("include_quarantined") is True,
        proved=frozenset(unfinished_chain(ROOT, story, lambda one: one.with_outcome(*DONE))),
    )
    return replace(options, limit=",".join(names)), order, story.id


def _earlier(order: Order) -> RunStory:
    """The run to go on from: the named one, else the last of this verb and playbook. Raises UsageError."""

    def alike(header: RunHeader) -> bool:
        same = header.flags.get("playbook", order.playbook) == order.playbook
        return header.verb == order.verb and (same or order.verb != "play")  # deploy has one playbook for bundles

    if order.resume and order.resume != "last":
        story: RunStory | None = read(ROOT, order.resume)
    else:
        story = latest(ROOT, alike)
    said = f"{order.verb} {order.playbook}" if order.verb == "play" else order.verb
    if story is None:
        raise UsageError(f"there is no earlier run of {said} to go on from", hint="invoke runs lists all")
    if not alike(story.header):
        raise UsageError(f"run {story.id} was no run of {said}", hint=f"invoke runs.show {story.id} says how to go on")
    if story.state == "running":
        raise UsageError(f"run {story.id} is still running", hint=f"invoke runs.show {story.id}")
    return story
