"""A judgement on facts, and the catalogue that gives every judgement its words."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from fleet.packaged import table

SEVERITIES = ("fail", "warn", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a host. `accepted` holds the inventory's reason where it was accepted."""

    id: str
    severity: str  # fail | warn | info
    evidence: str
    why: str
    fix: str
    verify: str
    needs_reboot: bool
    source: str
    accepted: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue. `unread` is the severity when the facts for the check are missing.

    `after` names checks whose finding already explains missing facts. `safe_fix` says that the fix may be applied while
    services run and is undone as easily.
    """

    id: str
    title: str
    severity: str
    why: str
    fix: str
    verify: str
    source: str
    gpus: tuple[str, ...] = ()  # card families; empty = all
    roles: tuple[str, ...] = ("serve",)  # whom it is asked of: serve, build, none
    unread: str = "warn"
    after: tuple[str, ...] = ()
    needs_reboot: bool = False
    safe_fix: bool = False
    prepare: str = ""  # the id of the fix in fleet.prepare that mends it; empty = nothing here may touch it

    def finding(self, evidence: str, *, unread: bool = False) -> Finding:
        return Finding(
            id=self.id,
            severity=self.unread if unread else self.severity,
            evidence=evidence,
            why=self.why,
            fix=self.fix,
            verify=self.verify,
            needs_reboot=self.needs_reboot,
            source=self.source,
        )


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every check by id, in the order in which findings are shown."""
    rows = table("fleet.preflight", "catalogue.yaml")["checks"]
    return {row["id"]: _entry(row) for row in rows}


def _entry(row: Mapping[str, Any]) -> Entry:
    lists = {key: tuple(row[key]) for key in ("gpus", "after", "roles") if key in row}
    return Entry(**{**row, **lists})


def verdict(findings: Iterable[Finding], strict: bool) -> bool:
    """Whether the host is fit: no open failure and, when strict, no open warning either."""
    against = ("fail", "warn") if strict else ("fail",)
    return not any(finding.severity in against and not finding.accepted for finding in findings)
