"""Findings for a person: what is wrong where, the evidence, why it matters, how to mend and how to see it mended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from fleet.preflight import Finding
from fleet.report.hosts import fold

_ORDER = {"fail": 0, "warn": 1, "info": 2}
_STYLE = {"fail": "bold red", "warn": "yellow", "info": "dim", "accepted": "dim"}


@dataclass(frozen=True)
class Shared:
    """One finding id with the hosts that have it, and their evidence."""

    finding: Finding
    evidence: Mapping[str, tuple[str, ...]]  # evidence -> hosts

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for hosts in self.evidence.values() for host in hosts)


def share(findings: Mapping[str, Sequence[Finding]]) -> tuple[Shared, ...]:
    """The same finding on many hosts is told once, gravest first; within a severity in catalogue order."""
    grouped: dict[tuple[str, str, str], tuple[Finding, dict[str, list[str]]]] = {}
    for host, found in findings.items():
        for finding in found:
            key = (finding.id, finding.severity, finding.accepted)
            _, evidence = grouped.setdefault(key, (finding, {}))
            evidence.setdefault(finding.evidence, []).append(host)
    shared = [
        Shared(finding, {text: tuple(hosts) for text, hosts in evidence.items()})
        for finding, evidence in grouped.values()
    ]
    return tuple(sorted(shared, key=lambda item: (bool(item.finding.accepted), _ORDER[item.finding.severity])))


def counts(findings: Sequence[Finding]) -> str:
    """`1 fail, 2 warn`, or `ready` when nothing speaks against the host."""
    open_ones = [finding for finding in findings if not finding.accepted]
    parts = [
        f"[{_STYLE[severity]}]{number} {severity}[/]"
        for severity in ("fail", "warn", "info")
        if (number := sum(finding.severity == severity for finding in open_ones))
    ]
    accepted = len(findings) - len(open_ones)
    parts += [f"[dim]{accepted} accepted[/]"] if accepted else []
    return ", ".join(parts) or "[green]ready[/]"


def show(console: Console, findings: Mapping[str, Sequence[Finding]], *, verbose: bool) -> None:
    """Every finding with its evidence and fix; `info` ones only when asked for."""
    for item in share(findings):
        if item.finding.severity != "info" or verbose:
            console.print(_entry(item))


def _entry(item: Shared) -> RenderableType:
    finding = item.finding
    style = _STYLE["accepted" if finding.accepted else finding.severity]
    word = "accepted" if finding.accepted else finding.severity.upper()
    head = f"[{style}]{word}[/] [bold]{finding.id}[/] on {escape(fold(item.hosts))}"
    body = Table.grid(padding=(0, 1))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(overflow="fold")
    for text, hosts in item.evidence.items():
        where = f"  [dim]({escape(fold(hosts))})[/]" if len(item.evidence) > 1 else ""
        body.add_row("found", f"{escape(text)}{where}")
    rows = [("why", finding.why), ("fix", finding.fix), ("check", finding.verify), ("accepted", finding.accepted)]
    for name, text in rows:
        if text:
            body.add_row(name, escape(text))
    if finding.needs_reboot:
        body.add_row("note", "the fix needs a reboot of the host")
    return Group(head, Padding(body, (0, 0, 1, 4)))
