"""Which hosts of a play go first, and which together. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from fleet.playbook import Batch, batches
from fleet.rollout.assign import Assignment


@dataclass(frozen=True)
class Known:
    """What a look has told of a play's hosts. `new` have nothing that serves yet, `unchanged` nothing to do.

    `serves`: some of the services' replicas answer somewhere. `proved` are canaries that an earlier run verified.
    """

    new: Collection[str] = ()
    unchanged: Collection[str] = ()
    serves: bool = True
    proved: Collection[str] = ()


NOTHING = Known()


def order(
    assignment: Assignment, fit: Sequence[str], known: Known = NOTHING, *, start: int = 1
) -> tuple[tuple[str, Batch], ...]:
    """Named batches of the hosts that are fit, numbered from `start`.

    Where something serves the canaries come first, whatever the others are: what nobody has seen answer goes to one host
    alone. Hosts with nothing to do come last, so that what is right already neither counts as a canary nor keeps the
    others from being mended.
    """
    play = assignment.play
    last = tuple(name for name in fit if name in known.unchanged)
    rest = tuple(name for name in fit if name not in last)
    together = tuple(name for name in rest if play.new_hosts_together and name in known.new)
    single = tuple(name for name in rest if name not in together)
    first = canaries(assignment, single, together, known) if known.serves or single else ()
    together = tuple(name for name in together if name not in first)
    single = (*first, *(name for name in single if name not in first))
    turns = batches(single, replace(play, canary=len(first))) if single else ()
    groups = [("canary" if one.canary else "batch", one.hosts, one.canary) for one in turns]
    groups.insert(1 if first else 0, ("new hosts", together, False))
    groups.append(("unchanged hosts", last, False))
    return tuple(
        (f"batch {number}" if title == "batch" else title, Batch(number, hosts, canary))
        for number, (title, hosts, canary) in enumerate((one for one in groups if one[1]), start=start)
    )


def canaries(assignment: Assignment, single: Sequence[str], together: Sequence[str], known: Known) -> tuple[str, ...]:
    """Who goes first and alone. A pattern whose hosts are all right already, or were verified, has done its part;
    where it names nobody who takes part, the first host stands in. A host that serves is a better one than a new one.
    """
    play = assignment.play
    rest = (*single, *together)
    if isinstance(play.canary, int):
        return tuple(single or rest)[: play.canary]
    named = tuple(name for name in rest if name in assignment.canaries)
    if not named and assignment.canaries & {*known.unchanged, *known.proved}:
        return ()
    return named or tuple(single or rest)[:1]
