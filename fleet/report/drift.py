"""`invoke drift`: one screen of what is not as it should be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.drift import Drift


def show(found: Mapping[str, Sequence[Drift]], notes: Sequence[str]) -> None:
    """A line for each difference, which hosts that have it share, and one where there is none."""
    told: dict[Drift, list[str]] = {}
    for host, of_host in found.items():
        for one in of_host:
            told.setdefault(one, []).append(host)
    for one, hosts in told.items():
        terminal.host_line(fold(hosts), f"{one.kind}: {one.subject}: {one.what}")
    for note in notes:
        terminal.event("images", note)
    odd = [host for host, of_host in found.items() if of_host]
    if found and not odd:
        terminal.out().print(f"{len(found)} hosts are as the inventory says")
    elif odd:
        terminal.out().print(f"{len(odd)} of {len(found)} hosts differ; what a deploy would do: invoke plan --diff")


def document(found: Mapping[str, Sequence[Drift]], notes: Sequence[str]) -> dict[str, object]:
    """`{hosts: {HOST: [{kind, subject, what}]}, notes: […]}`; a host without drift has an empty list."""
    return {"hosts": {host: [asdict(one) for one in of_host] for host, of_host in found.items()}, "notes": list(notes)}
