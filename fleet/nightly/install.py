"""Put the timer's files in their places, and take them away. The texts are made by timer.py."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.nightly.timer import MARK, Timer, calendar, cron_line, cron_times, environment_text, service, timer_unit


@dataclass(frozen=True)
class Place:
    """Where the files lie. `root` is "/" but for tests; `system`: root's systemd, else that of the user."""

    units: Path
    cron: Path
    environment: Path
    root: Path = Path("/")
    system: bool = True
    booted: bool = False  # systemd runs here as the first process


@dataclass(frozen=True)
class Written:
    """A file that is to be there. `keep`: somebody fills it in, so a file that is there stays as it is."""

    path: Path
    text: str
    mode: int = 0o644
    keep: bool = False


def here(root: Path = Path("/")) -> Place:
    """The places of this machine, for root or for a user. Source of `booted`: sd_booted(3)."""
    booted = (root / "run/systemd/system").is_dir()
    if os.geteuid() == 0:
        return Place(root / "etc/systemd/system", root / "etc/cron.d", root / "etc/fleet", root, booted=booted)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Place(config / "systemd/user", root / "etc/cron.d", config / "fleet", root, system=False, booted=booted)


def files(timer: Timer, place: Place, controller: str, *, cron: bool) -> tuple[Written, ...]:
    """All that is written, the environment file first: what reads it may start at once."""
    environment = Written(timer.environment, environment_text(timer), 0o600, keep=True)
    if cron:
        return environment, Written(place.cron / timer.name.replace(".", "_"), cron_line(timer, controller))
    return (
        environment,
        Written(place.units / f"{timer.name}.service", service(timer, system=place.system)),
        Written(place.units / f"{timer.name}.timer", timer_unit(timer)),
    )


def judge(written: tuple[Written, ...], timer: Timer) -> None:
    """Raises UsageError for a file that is not ours, or that starts the nights of another directory."""
    for one in written:
        first = _first_line(one.path)
        if first in ("", timer.mark):
            continue
        if not first.startswith(MARK):
            raise UsageError(f"{one.path} is there and not of fleet", hint="move it away")
        raise UsageError(
            f"{one.path} starts the {first.removeprefix(MARK + ': ')}",
            hint="uninstall it there, or rename the inventory",
        )


def install(timer: Timer, place: Place, written: tuple[Written, ...], *, cron: bool) -> tuple[str, ...]:
    """Write what differs and start the timer; the files that were changed. Equal files are left alone."""
    if cron and not place.system:
        raise UsageError(
            "only root can write to /etc/cron.d", hint="run it as root, or put the line of --check into crontab -e"
        )
    changed = [str(one.path) for one in written if _write(one, timer.user)]
    if not cron:
        _systemctl(place, "enable", f"{timer.name}.timer")
        if place.booted:
            _systemctl(place, "daemon-reload")
            _systemctl(place, "restart" if changed else "start", f"{timer.name}.timer")
    return tuple(changed)


def present(timer: Timer, place: Place) -> tuple[Written, ...]:
    """What of the files is there, whichever way it was installed. Raises UsageError for those of somebody else."""
    both = {one.path: one for cron in (False, True) for one in files(timer, place, "", cron=cron)}
    there = tuple(one for one in both.values() if one.path.exists())
    judge(there, timer)
    return there


def outdated(timer: Timer, place: Place) -> bool:
    """Is what starts the nights there, with another schedule than the timer's?"""
    said = {".timer": f"OnCalendar={calendar(timer.schedule)}\n", "": f"\n{cron_times(timer.schedule)} "}
    there = [one.path for one in present(timer, place) if not one.keep and one.path.suffix in said]
    return any(said[path.suffix] not in path.read_text(encoding="utf-8") for path in there)


def uninstall(timer: Timer, place: Place) -> tuple[str, ...]:
    """Stop the timer and remove every file that `install` writes; a night that is running goes on to its end."""
    there = present(timer, place)
    if any(one.path.suffix == ".timer" for one in there):
        if place.booted:
            _systemctl(place, "stop", f"{timer.name}.timer")
        _systemctl(place, "disable", f"{timer.name}.timer")
    for path in (*(one.path for one in there), *timer.traces):
        path.unlink(missing_ok=True)
    if place.booted and there:
        _systemctl(place, "daemon-reload")
        # systemd remembers a unit whose last night failed. By a pattern, for it refuses the name of one that it has forgotten.
        _systemctl(place, "reset-failed", f"{timer.name}.servic[e]")
    if place.environment.is_dir() and not any(place.environment.iterdir()):
        place.environment.rmdir()
    return tuple(str(one.path) for one in there)


def _write(one: Written, user: str) -> bool:
    """In one step and with its mode from the first byte on. False when it is there already."""
    if one.path.exists() and (one.keep or one.path.read_text(encoding="utf-8") == one.text):
        if one.path.stat().st_mode & 0o777 != one.mode:
            one.path.chmod(one.mode)
        return False
    fresh = one.path.with_name(f".{one.path.name}.new")
    try:
        one.path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, one.mode), "w", encoding="utf-8") as file:
            file.write(one.text)
        if user and one.mode == 0o600:
            shutil.chown(fresh, user)
        fresh.replace(one.path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise FleetError(f"{one.path} cannot be written: {error.strerror}") from error
    return True


def unset(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the variables that the environment file gives no value."""
    lines = path.read_text(encoding="utf-8").splitlines()
    given = {name for name, _, value in (line.partition("=") for line in lines) if value.strip("'\" ")}
    return tuple(name for name in names if name not in given)


def require_user(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError as error:
        raise UsageError(f"this machine has no user {user}") from error


def _first_line(path: Path) -> str:
    """Its first line, "" where there is no file and "?" for one that is empty or no text."""
    try:
        return (path.read_text(encoding="utf-8").splitlines() or ["?"])[0] or "?"
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "?"
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error


def _systemctl(place: Place, *words: str) -> None:
    scope = () if place.system else ("--user",)
    # Without a running systemd the links of `enable` are made in the files alone.
    offline = () if place.booted else (f"--root={place.root}",) if place.system else ()
    command = ("systemctl", *scope, *offline, *words)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FleetError(f"`{' '.join(command)}` could not be run: {error}", hint="--how cron") from error
    if done.returncode:
        raise FleetError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
