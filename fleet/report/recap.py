"""The recap: one line per host in Ansible's manner, then the time. What is wrong is said behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet.report.hosts import fold

MANY = 24  # hosts that have a line each; as many as a screen holds
WIDEST = 60  # columns to which names are aligned


@dataclass(frozen=True)
class HostRecap:
    """Counts of one host's steps."""

    host: str
    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def well(self) -> bool:
        return not (self.unreachable or self.failed)


def folded(rows: Sequence[HostRecap]) -> list[HostRecap]:
    """Of many hosts those that are well and have the same counts stand in one line: the others must not scroll away."""
    if len(rows) <= MANY:
        return list(rows)
    groups: dict[HostRecap, list[str]] = {}
    for row in rows:
        groups.setdefault(replace(row, host="" if row.well else row.host), []).append(row.host)
    return [replace(row, host=_title(names)) for row, names in groups.items()]


def lines(rows: Sequence[HostRecap], seconds: float) -> list[str]:
    """The recap as plain text, host names aligned."""
    shown = folded(rows)
    width = min(max((len(row.host) for row in shown), default=0), WIDEST)
    text = [
        f"{row.host:<{width}} : ok={row.ok:<4} changed={row.changed:<4} unreachable={row.unreachable:<4} "
        f"failed={row.failed:<4} skipped={row.skipped}"
        for row in shown
    ]
    return [*text, f"{len(rows)} host{'' if len(rows) == 1 else 's'} in {duration(seconds)}"]


def _title(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{fold(names)} ({len(names)} hosts)"


def duration(seconds: float) -> str:
    """`0.8 s`, `75 s`, `12 min 5 s`, `1 h 2 min`: two units at most."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def colour(recap: HostRecap) -> str:
    if not recap.well:
        return "red"
    return "yellow" if recap.changed else "green"
