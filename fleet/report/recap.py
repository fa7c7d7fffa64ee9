"""The recap: one line per host in Ansible's manner, then the time. The last thing a person reads."""

from collections.abc import Iterable
from dataclasses import dataclass


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


def lines(recaps: Iterable[HostRecap], seconds: float) -> list[str]:
    """The recap as plain text, host names aligned."""
    rows = list(recaps)
    width = max((len(row.host) for row in rows), default=0)
    text = [
        f"{row.host:<{width}} : ok={row.ok:<4} changed={row.changed:<4} unreachable={row.unreachable:<4} "
        f"failed={row.failed:<4} skipped={row.skipped}"
        for row in rows
    ]
    return [*text, f"{len(rows)} host{'' if len(rows) == 1 else 's'} in {duration(seconds)}"]


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
