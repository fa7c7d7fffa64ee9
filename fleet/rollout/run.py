"""One execution over some hosts, and what became of each of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.delivery.progress import Moving, silent
from fleet.errors import HostError, no_connection
from fleet.journal.audit import AuditEntry
from fleet.preflight import Finding
from fleet.rollout.site import Site, Wishes
from fleet.seam import Bare, Seam
from fleet.serving.verify import Proof
from fleet.transport import Connector

Say = Callable[[str, str], None]


@dataclass
class Outcome:
    """What became of one host. `changed` counts steps that were carried out and found done by a fresh look."""

    host: str
    site: Site | None = None
    changed: int = 0
    kept: int = 0
    error: HostError | None = None
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    deeds: list[AuditEntry] = field(default_factory=list)  # not yet in the host's audit
    warnings: list[str] = field(default_factory=list)  # of verification: wrong beside its likes, or slow
    findings: list[Finding] = field(default_factory=list)  # what the changes themselves found out: dirty GPUs
    down: tuple[str, ...] = ()  # services that served here before the run and do not now
    unknown: tuple[str, ...] = ()  # services that were being replaced when the host was lost: nobody could ask since


@dataclass(frozen=True)
class Run:
    """One execution over some hosts. `say(host, line)` hears what happens and may be called from any thread."""

    connector: Connector
    wishes: Wishes
    root: Path
    forks: int
    say: Say
    clock: Callable[[], float] = time.time
    seam: Seam = field(default_factory=Bare)
    moving: Moving = silent  # is told of bytes under way; fleet.report.transfers shows them


def failures(outcomes: Mapping[str, Outcome]) -> dict[str, HostError]:
    """The hosts that failed, with why."""
    return {name: outcome.error for name, outcome in outcomes.items() if outcome.error is not None}


def not_reached(outcome: Outcome) -> bool:
    """Was there no connection, at first or at last?"""
    return no_connection(outcome.error)


def going(outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes.values() if outcome.error is None and outcome.site is not None]


def site_of(outcome: Outcome) -> Site:
    if outcome.site is None:
        raise HostError(outcome.host, "was not looked at")
    return outcome.site


def unfit(site: Site) -> HostError:
    """Why a host is left alone, with the first fix."""
    reasons = [*(f"{finding.id}: {finding.evidence}" for finding in site.plan.blocked), *site.plan.problems]
    hint = site.plan.blocked[0].fix if site.plan.blocked else ""
    return HostError(site.host.name, f"is not fit, and was left alone: {'; '.join(reasons)}", hint=hint)


def note(outcome: Outcome, result: int | HostError) -> None:
    if isinstance(result, HostError):
        outcome.error = result
    else:
        outcome.changed += result
