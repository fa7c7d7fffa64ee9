"""Hosts that a run leaves out: in maintenance because somebody said so, in quarantine because nobody could reach them.

Maintenance is the team's knowledge and stands beside the inventory, in `<inventory>.maintenance.yaml`. Quarantine is
this controller's experience and stands in `.fleet/quarantine.json`.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import yaml

from fleet.errors import FleetError, InputError, Problem, UnreachableError, UsageError

SCHEMA = 1
TOO_NEW = "was written by a newer fleet (schema {found}, this one knows {known})"


@dataclass(frozen=True)
class Maintenance:
    """Out for every command until `until` (UTC); None is until somebody ends it."""

    host: str
    reason: str
    by: str
    since: datetime
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        return self.until is None or now < self.until

    def __str__(self) -> str:
        end = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"in maintenance{end}: {self.reason} ({self.by}, {self.since:%Y-%m-%d})"


@dataclass(frozen=True)
class Quarantined:
    """Could not be reached, also not at the end of its batch."""

    host: str
    reason: str
    since: str
    run: str = ""

    def __str__(self) -> str:
        return f"in quarantine since {self.since}: {self.reason}"


class QuarantinedError(UnreachableError):
    """An earlier run could not reach the host, and this one, which asked it once, leaves it out."""

    def __init__(self, known: Quarantined) -> None:
        super().__init__(known.host, str(known), hint="mend it; --include-quarantined tries it as often as the others")


def read_maintenance(path: Path) -> dict[str, Maintenance]:
    """By host; past ones too. Raises InputError for a file that cannot be meant."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(Problem(str(path), 0, 0, "", f"cannot be read: {_flat(error)}")) from error
    try:
        _check_schema(path, value)
        return {name: _maintenance(name, entry) for name, entry in value["hosts"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = "invoke maintenance writes it; do not edit it by hand"
        raise InputError(
            Problem(str(path), 0, 0, "hosts", f"is not a maintenance file: {_flat(error)}", hint)
        ) from error


def write_maintenance(path: Path, hosts: Mapping[str, Maintenance]) -> None:
    """The whole file anew, in one move; no file where nobody is in maintenance."""
    if not hosts:
        path.unlink(missing_ok=True)
        return
    entries = {
        name: {
            "reason": one.reason,
            "by": one.by,
            "since": one.since.isoformat(timespec="seconds"),
            **({"until": one.until.isoformat(timespec="seconds")} if one.until else {}),
        }
        for name, one in sorted(hosts.items())
    }
    _replace(path, yaml.safe_dump({"schema": SCHEMA, "hosts": entries}, sort_keys=False))


def read_quarantine(root: Path) -> dict[str, Quarantined]:
    """By host. A file that cannot be read is no reason to stop a run: it is only this controller's memory."""
    path = root / "quarantine.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        _check_schema(path, value)
        return {name: Quarantined(name, **entry) for name, entry in value["hosts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_quarantine(root: Path, hosts: Mapping[str, Quarantined]) -> None:
    """Raises FleetError where it cannot be written."""
    path = root / "quarantine.json"
    try:
        if not hosts:
            path.unlink(missing_ok=True)
            return
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FleetError(f"{path} cannot be written: {error.strerror}") from error
    entries = {name: {k: v for k, v in asdict(one).items() if k != "host"} for name, one in sorted(hosts.items())}
    _replace(path, json.dumps({"schema": SCHEMA, "hosts": entries}, indent=2))


def parse_until(text: str, now: datetime) -> datetime | None:
    """`2026-12-01`, `2026-12-01T18:00`, `18:00`, `4h`, `3d`, or empty for an open end. Raises UsageError."""
    if not text:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    if text[:-1].isdigit() and text[-1] in units:
        return now + timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        return _moment(text, now)
    except ValueError:
        hint = "2026-12-01, 2026-12-01T18:00 (local time), 18:00, 4h or 3d"
        raise UsageError(f"--until {text!r} is no time", hint=hint) from None


def _moment(text: str, now: datetime) -> datetime:
    if len(text) <= 5:
        clock = time.fromisoformat(text if ":" in text else f"{text}:00")
        local = now.astimezone()
        found = local.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
        found = found if found > local else found + timedelta(days=1)
    elif len(text) == 10:
        found = datetime.combine(date.fromisoformat(text), time(0)).astimezone()
    else:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.astimezone()
    return found.astimezone(UTC)


def _maintenance(name: str, entry: Any) -> Maintenance:
    until = entry.get("until")
    return Maintenance(
        name,
        str(entry["reason"]),
        str(entry["by"]),
        _utc(entry["since"]),
        None if until is None else _utc(until),
    )


def _utc(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_schema(path: Path, value: Any) -> None:
    found = value["schema"]
    if found != SCHEMA:
        raise FleetError(f"{path} {TOO_NEW.format(found=found, known=SCHEMA)}", hint="upgrade this fleet")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise FleetError(f"{path} cannot be written: {error.strerror}") from error


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())
