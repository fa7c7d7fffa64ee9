"""What a run's records have in common: schema number, run id, times, outcomes of a host. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fleet.errors import FleetError, HostError, UnreachableError

SCHEMA = 1
DONE = ("ok", "changed", "skipped")  # nothing is left to do there
BAD = ("down", "failed", "unreachable", "quarantined")  # loudest first: `down` serves nothing any more
OUTCOMES = (*DONE, *BAD, "untouched")  # untouched: the run ended before it came to this host


@dataclass(frozen=True)
class RunHeader:
    """What was asked for: enough to ask for it again.

    `inventory` are the inventory's files, `limit` the host pattern, `flags` the verb's own flags as JSON values,
    `hosts` all that take part, in the order of the inventory, `continues` the id of the run that this one resumes.
    """

    verb: str
    argv: tuple[str, ...]
    hosts: tuple[str, ...]
    inventory: tuple[str, ...] = ()
    limit: str = "all"
    flags: Mapping[str, Any] = field(default_factory=dict)
    continues: str = ""


def outcome_of(error: HostError | None, changed: int) -> str:
    """`ok`, `changed`, `failed` or `unreachable` of how work on a host ended."""
    if error is None:
        return "changed" if changed else "ok"
    return "unreachable" if isinstance(error, UnreachableError) else "failed"


def run_id(moment: datetime, salt: str) -> str:
    """`20261123-034719-482-9f3a`: UTC to the millisecond, so that names sort by time, and some randomness."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%d-%H%M%S}-{utc.microsecond // 1000:03d}-{salt}"


def iso(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-23T03:47:19.482Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: object) -> float:
    """The way back from `iso`; 0.0 for what is no time."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse(line: str, where: str) -> dict[str, Any] | None:
    """One JSON line, or None for a torn or foreign one. Raises FleetError for a record of a newer fleet."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    check_schema(value, where)
    return value


def check_schema(record: Mapping[str, Any], where: str) -> None:
    """Raises FleetError with one sentence when `record` was written by a newer fleet."""
    schema = record.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise FleetError(
            f"{where} was written by a newer fleet (schema {schema}, this one knows {SCHEMA})",
            hint="use the newer fleet, or upgrade this one: pip install --upgrade amd-fleet",
        )
