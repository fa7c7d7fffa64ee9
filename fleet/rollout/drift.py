"""Where a fleet is not as its inventory says, and which hosts are not like the others of their group. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from fleet.facts import Facts
from fleet.inventory.model import Host
from fleet.rollout.hostplan import HostPlan
from fleet.serving.inspection import Inspection

ENOUGH = 3  # hosts that a group needs for a majority


@dataclass(frozen=True)
class Drift:
    """One difference. `kind`: unfit, image, container, missing, extra, unlike. `subject` is what differs."""

    kind: str
    subject: str
    what: str


# What hosts of one group have alike, as words. Firmware is not among the facts.
PROPERTIES: Mapping[str, Callable[[Facts], object]] = {
    "operating system": lambda facts: facts.system.os_name,
    "kernel": lambda facts: facts.system.kernel,
    "amdgpu driver": lambda facts: facts.driver.version or ("in-tree" if facts.driver.in_tree else facts.driver.state),
    "Docker engine": lambda facts: facts.docker.version,
    "image store": lambda facts: facts.docker.image_store,
    "GPUs": lambda facts: len(facts.topology.gpus) if facts.topology.kfd is not None else None,
    "gfx": lambda facts: _words(gpu.gfx for gpu in facts.topology.gpus),
    "compute partition": lambda facts: _words(gpu.compute_partition for gpu in facts.topology.gpus),
    "memory partition": lambda facts: _words(gpu.memory_partition for gpu in facts.topology.gpus),
    "kernel.numa_balancing": lambda facts: facts.tuning.numa_balancing,
    "CPU governor": lambda facts: facts.tuning.governor,
    "transparent hugepages": lambda facts: facts.tuning.transparent_hugepage,
    "cgroup version": lambda facts: facts.tuning.cgroup,
    "SELinux": lambda facts: facts.tuning.selinux,
}


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

    Only hosts whose facts are known count, and what a host does not tell is no difference.
    """
    members: dict[str, list[str]] = {}
    for one in hosts:
        for group in one.groups:
            if one.name in facts:
                members.setdefault(group, []).append(one.name)
    large = [group for group in members if len(members[group]) >= ENOUGH]
    groups = sorted(large, key=lambda group: (len(members[group]), group == "all"))
    found: dict[str, dict[str, Drift]] = {}
    judged: set[tuple[str, str]] = set()
    for group in groups:
        for name, read in PROPERTIES.items():
            values = {host: value for host in members[group] if (value := read(facts[host])) not in (None, "")}
            if not values:
                continue
            usual, count = Counter(map(str, values.values())).most_common(1)[0]
            if count * 2 <= len(values):
                continue
            for host, value in values.items():
                if (host, name) not in judged and str(value) != usual:
                    what = f"{value}, where {count} of {len(values)} hosts of {group} have {usual}"
                    found.setdefault(host, {})[name] = Drift("unlike", name, what)
                judged.add((host, name))
    return {host: tuple(of_host.values()) for host, of_host in found.items()}


def _words(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({one for one in values if one}))
