"""Where a fleet is not as its inventory says, and which hosts are not like the others of their group. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fleet.facts import Facts
from fleet.inventory.model import Host
from fleet.rollout.alike import properties
from fleet.rollout.hostplan import HostPlan
from fleet.serving.inspection import Inspection

ENOUGH = 3  # hosts that a group needs for a majority


@dataclass(frozen=True)
class Drift:
    """One difference. `kind`: unfit, image, container, missing, extra, changed, unlike. `subject` is what differs."""

    kind: str
    subject: str
    what: str


def of_host(plan: HostPlan, containers: Iterable[Inspection], services: Collection[str]) -> tuple[Drift, ...]:
    """What a deploy would do here, and what it would leave standing though nobody asks for it."""
    found = [Drift("unfit", finding.id, finding.evidence) for finding in plan.blocked]
    found += [Drift("unfit", "host", problem) for problem in plan.problems]
    found += [Drift("image", step.what, step.why) for step in plan.images if step.changes]
    names = {one.name for one in containers}
    found += [
        Drift("container" if change.name in names else "missing", change.name, change.why)
        for change in plan.serving.changes
    ]
    changing = {change.name for change in plan.serving.changes}
    found += [
        Drift("extra", one.name, f"is {one.state}, and no service here is called {one.service}")
        for one in containers
        if one.owned and one.service not in services and one.name not in changing
    ]
    return tuple(found)


def unlike(hosts: Iterable[Host], facts: Mapping[str, Facts]) -> dict[str, tuple[Drift, ...]]:
    """By host, where it differs from most of the smallest group in which there is a majority. `all` counts as the largest.

    Hosts are compared with those of which the inventory promises the same GPUs: what it says itself is no drift. Only hosts
    whose facts are known count, and what a host does not tell is no difference.
    """
    members: dict[tuple[str, str], list[str]] = {}
    for one in hosts:
        for group in one.groups:
            if one.name in facts:
                members.setdefault((group, _kind(one)), []).append(one.name)
    large = [key for key in members if len(members[key]) >= ENOUGH]
    told = {host: properties(of_host) for host, of_host in facts.items()}
    names = tuple(dict.fromkeys(name for of_host in told.values() for name in of_host))
    found: dict[str, list[tuple[str, str]]] = {}
    judged: set[tuple[str, str]] = set()
    for group, kind in sorted(large, key=lambda key: (len(members[key]), key[0] == "all")):
        for name in names:
            values = {host: told[host][name] for host in members[group, kind] if name in told[host]}
            if not values:
                continue
            usual, count = Counter(values.values()).most_common(1)[0]
            if count * 2 <= len(values):
                continue
            for host, value in values.items():
                if (host, name) not in judged and value != usual:
                    what = f"{value}, where {count} of {len(values)} hosts{kind} of {group} have {usual}"
                    found.setdefault(host, []).append((name, what))
                judged.add((host, name))
    return {host: joined("unlike", of_host) for host, of_host in found.items()}


def _kind(host: Host) -> str:
    """What is promised of the host, in words to be put behind `hosts`; empty where nothing is."""
    gpus = host.settings.gpus
    count = f"{gpus.count} " if gpus.count else ""
    partitions = " ".join(filter(None, (gpus.compute_partition, gpus.memory_partition)))
    if gpus.model or count:
        return f" with {count}{gpus.model or 'GPUs'}{f' in {partitions}' if partitions else ''}"
    return "" if host.settings.services else " without services"


def joined(kind: str, told: Iterable[tuple[str, str]]) -> tuple[Drift, ...]:
    """(property, what) as differences, in which parts of one subject (`SUBJECT: PART`) are one."""
    whats: dict[str, list[str]] = {}
    for name, what in told:
        subject, _, part = name.partition(": ")
        whats.setdefault(subject, []).append(f"{part} {what}" if part else what)
    return tuple(Drift(kind, subject, "; ".join(parts)) for subject, parts in whats.items())
