"""Which hosts go together, and in which order. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fleet.errors import UsageError
from fleet.playbook.model import Amount, Play


@dataclass(frozen=True)
class Batch:
    """Hosts that go together. `number` counts from 1 within the play; a canary batch is always the first."""

    number: int
    hosts: tuple[str, ...]
    canary: bool = False


def batches(names: Sequence[str], play: Play, *, canaries: Collection[str] = ()) -> tuple[Batch, ...]:
    """The canaries first and alone, then the others by `serial`, in the order of `names` (each host once).

    `canaries` are the hosts that the pattern `play.canary` stands for; hosts that are not in `names` do not count. Where
    `canary` is a number, the first hosts are taken. Percentages count all hosts of the play, canaries too. Raises
    UsageError for a pattern that leaves no canary.
    """
    hosts = tuple(dict.fromkeys(names))
    first = _canaries(hosts, play, canaries)
    rest = tuple(host for host in hosts if host not in first)
    groups = [(first, True)] if first else []
    groups += [(group, False) for group in in_series(rest, play.serial, total=len(hosts))]
    return tuple(Batch(number, group, canary) for number, (group, canary) in enumerate(groups, start=1))


def in_series(hosts: Sequence[str], serial: Sequence[Amount], *, total: int) -> tuple[tuple[str, ...], ...]:
    """Ansible's `serial`: size after size, the last one repeats; 0 means all that are left.

    Source: ansible-core, PlaybookExecutor._get_serialized_batches and pct_to_int.
    """
    left, found, turn = tuple(hosts), [], 0
    while left:
        size = _size(serial[min(turn, len(serial) - 1)], total) if serial else 0
        taken = left[:size] if size else left
        found.append(taken)
        left, turn = left[len(taken) :], turn + 1
    return tuple(found)


def _size(amount: Amount, total: int) -> int:
    if not amount.percent:
        return amount.value
    # In floating point as Ansible does it: 29% of 100 hosts are 28 there. 0% is one host as well.
    return int((amount.value / 100.0) * total) or 1


def _canaries(hosts: tuple[str, ...], play: Play, named: Collection[str]) -> tuple[str, ...]:
    if isinstance(play.canary, int):
        return hosts[: play.canary]
    found = tuple(host for host in hosts if host in named)
    if hosts and not found:
        raise UsageError(
            f"the play {play.name!r} has no canary: {play.canary!r} matches none of its {len(hosts)} hosts",
            hint="--limit must leave a canary, or give a number of hosts",
        )
    return found
