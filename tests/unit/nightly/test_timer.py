"""The texts that start a night, and when they do."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.nightly.timer import (
    Timer,
    calendar,
    cron_line,
    cron_times,
    delay,
    environment_text,
    service,
    timer_unit,
    unit_name,
    upcoming,
    weekdays,
)

TIMER = Timer(
    "fleet-nightly-prod",
    ("/opt/fleet/bin/fleet", "nightly", "--inventory", "/srv/site/prod.yaml"),
    Path("/srv/site/prod.yaml"),
    Path("/srv/site"),
    "Mon..Fri 02:30",
    15,
    Path("/etc/fleet/fleet-nightly-prod.env"),
    secrets=("REG_PASS",),
)


@pytest.mark.parametrize(
    ("schedule", "systemd", "cron"),
    [
        ("02:30", "*-*-* 02:30:00", "30 2 * * *"),
        ("Mon..Fri 02:30", "Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00", "30 2 * * 1,2,3,4,5"),
        ("Sat,Sun 23:05", "Sat,Sun *-*-* 23:05:00", "5 23 * * 6,0"),
    ],
)
def test_a_schedule_means_the_same_to_systemd_and_cron(schedule: str, systemd: str, cron: str) -> None:
    assert (calendar(schedule), cron_times(schedule)) == (systemd, cron)


@pytest.mark.parametrize(
    ("schedule", "now", "then"),
    [
        ("02:30", (2026, 11, 23, 2, 29), (2026, 11, 23, 2, 30)),
        ("02:30", (2026, 11, 23, 2, 30), (2026, 11, 24, 2, 30)),
        ("Mon..Fri 02:30", (2026, 11, 27, 3, 0), (2026, 11, 30, 2, 30)),  # a Friday
        ("Mon 02:30", (2026, 11, 23, 3, 0), (2026, 11, 30, 2, 30)),  # a Monday, a whole week later
    ],
)
def test_the_next_night_is_the_first_allowed_day_after_now(
    schedule: str, now: tuple[int, ...], then: tuple[int, ...]
) -> None:
    def moment(parts: tuple[int, ...]) -> datetime:
        year, month, day, hour, minute = parts
        return datetime(year, month, day, hour, minute, tzinfo=UTC)

    assert upcoming(schedule, moment(now)) == moment(then)


def test_a_range_of_days_goes_over_the_end_of_the_week() -> None:
    assert weekdays("Sat..Mon,Wed") == (0, 2, 5, 6)


def test_the_service_never_ends_by_a_clock_and_writes_to_the_journal() -> None:
    text = service(TIMER, system=True)
    for line in ("Type=oneshot", "TimeoutStartSec=infinity", "StandardOutput=journal", "KillMode=mixed"):
        assert f"\n{line}\n" in text
    assert "\nEnvironmentFile=/etc/fleet/fleet-nightly-prod.env\n" in text
    assert "User=" not in text
    assert "\nUser=ops\n" in service(replace(TIMER, user="ops"), system=True)
    assert "network-online" not in service(TIMER, system=False)
    assert "\nRandomizedDelaySec=15min\n" in timer_unit(TIMER)


def test_words_that_systemd_and_cron_read_otherwise_are_made_plain() -> None:
    odd = replace(TIMER, program=("/opt/my fleet/fleet", 'a"b', "50%", "$HOME"), directory=Path("/srv/50% more"))
    text = service(odd, system=True)
    assert '\nExecStart="/opt/my fleet/fleet" "a\\"b" 50%% $$HOME\n' in text
    assert "\nWorkingDirectory=/srv/50%% more\n" in text
    assert "cd '/srv/50\\% more' || exit 1" in cron_line(odd, "here")


def test_a_path_that_no_unit_can_hold_is_refused() -> None:
    for path in (Path("/srv/a\nb"), Path("/srv/a ")):
        with pytest.raises(UsageError):
            service(replace(TIMER, directory=path), system=True)


def test_crons_delay_stays_below_the_jitter_and_is_the_same_every_night() -> None:
    delays = {delay(TIMER, f"controller-{number}") for number in range(50)}
    assert max(delays) < 15 * 60
    assert len(delays) > 25
    assert delay(TIMER, "a") == delay(TIMER, "a")
    assert delay(replace(TIMER, jitter=0), "a") == 0


def test_units_are_named_after_the_inventory() -> None:
    assert unit_name(Path("inventories/prod.example.yaml")) == "fleet-nightly-prod.example"
    assert unit_name(Path("my fleet/")) == "fleet-nightly-my-fleet"


def test_the_environment_file_begins_with_names_and_no_values() -> None:
    assert "\n# REG_PASS=''\n" in environment_text(TIMER)
