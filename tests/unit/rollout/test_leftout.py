"""Maintenance beside the inventory, quarantine in .fleet, and the times that people write."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import FleetError, InputError, UsageError
from fleet.rollout.leftout import (
    Maintenance,
    Quarantined,
    parse_until,
    read_maintenance,
    read_quarantine,
    write_maintenance,
    write_quarantine,
)

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def test_maintenance_is_read_as_it_was_written_and_the_file_goes_with_the_last_host(tmp_path: Path) -> None:
    path = tmp_path / "prod.maintenance.yaml"
    known = {
        "n1": Maintenance("n1", "new HBM: bank 3", "ann", NOW, NOW + timedelta(days=3)),
        "n2": Maintenance("n2", "loud fan", "bob", NOW),
    }
    write_maintenance(path, known)
    assert read_maintenance(path) == known
    write_maintenance(path, {})
    assert not path.exists()
    assert read_maintenance(path) == {}


def test_maintenance_ends_at_its_time_and_an_open_one_does_not() -> None:
    timed = Maintenance("n1", "x", "ann", NOW, NOW + timedelta(hours=1))
    assert timed.holds(NOW)
    assert not timed.holds(NOW + timedelta(hours=1))
    assert Maintenance("n1", "x", "ann", NOW).holds(NOW + timedelta(days=999))


@pytest.mark.parametrize("text", ["- a", "schema: 1", "schema: 1\nhosts: {n1: {reason: x}}", "hosts: {", ""])
def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prod.maintenance.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="maintenance"):
        read_maintenance(path)


def test_what_a_newer_fleet_wrote_stops_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "prod.maintenance.yaml"
    path.write_text("schema: 2\nhosts: {}\n")
    with pytest.raises(FleetError, match="newer fleet"):
        read_maintenance(path)
    (tmp_path / "quarantine.json").write_text('{"schema": 2, "hosts": {}}')
    with pytest.raises(FleetError, match="newer fleet"):
        read_quarantine(tmp_path)


def test_quarantine_is_kept_and_a_damaged_memory_is_an_empty_one(tmp_path: Path) -> None:
    known = {"n1": Quarantined("n1", "no route to host", "2026-11-23 03:00 UTC", "run-1")}
    write_quarantine(tmp_path / ".fleet", known)
    assert read_quarantine(tmp_path / ".fleet") == known
    (tmp_path / ".fleet" / "quarantine.json").write_text("{torn")
    assert read_quarantine(tmp_path / ".fleet") == {}


@pytest.mark.parametrize("hosts", [{}, {"n1": Quarantined("n1", "no route to host", "2026-11-23 03:00 UTC", "run-1")}])
def test_a_quarantine_that_cannot_be_written_is_said_in_words(tmp_path: Path, hosts: dict[str, Quarantined]) -> None:
    (tmp_path / ".fleet").write_text("no directory")
    with pytest.raises(FleetError, match=r"quarantine\.json cannot be written: (Not a directory|File exists)"):
        write_quarantine(tmp_path / ".fleet", hosts)


@pytest.mark.parametrize(("text", "hours"), [("4h", 4), ("3d", 72), ("90m", 1.5), ("1w", 168)])
def test_spans_count_from_now(text: str, hours: float) -> None:
    assert parse_until(text, NOW) == NOW + timedelta(hours=hours)


def test_dates_and_clock_times_are_local_and_always_ahead() -> None:
    assert parse_until("", NOW) is None
    assert parse_until("2026-12-01T18:00:00+00:00", NOW) == datetime(2026, 12, 1, 18, tzinfo=UTC)
    for text in ("00:00", "12:30", "23:59"):
        found = parse_until(text, NOW)
        assert found is not None
        assert NOW < found <= NOW + timedelta(days=1)


@pytest.mark.parametrize("text", ["tomorrow", "3", "h", "2026-13-01", "25:00", "-1d"])
def test_other_words_are_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_until(text, NOW)
