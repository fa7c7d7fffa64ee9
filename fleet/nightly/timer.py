"""What starts a night: the texts of a systemd service and timer, or of a line for cron. Pure.

Sources: systemd.service(5), systemd.timer(5), systemd.time(7), systemd.syntax(7), crontab(5).
"""

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from fleet.errors import UsageError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MARK = "# Written by fleet nightly.install"
_STOP_SECONDS = 1800  # what was being replaced is put back first, and a model is loaded again for that


@dataclass(frozen=True)
class Timer:
    """One fleet's nights. `name` is the unit's, `program` the command with its arguments, `schedule` `[DAYS ]HH:MM`.

    `jitter` is in minutes. `user` "" is whoever the units belong to. `secrets` are names of environment variables that
    the inventory takes secrets from.
    """

    name: str
    program: tuple[str, ...]
    inventory: Path
    directory: Path
    schedule: str
    jitter: int
    environment: Path
    user: str = ""
    secrets: tuple[str, ...] = field(default=())

    @property
    def mark(self) -> str:
        """The line by which we know our own files: whose nights they start."""
        _text(f"{self.directory}{self.inventory}")
        return f"{MARK}: nights of {self.directory} with {self.inventory}"

    @property
    def traces(self) -> tuple[Path, Path]:
        """What cron's line leaves: its lock, and what the last night said."""
        base = self.directory / ".fleet/nights"
        return base / f"{self.name}.cron", base / f"{self.name}.log"


def unit_name(inventory: Path) -> str:
    """`prod.yaml` as `fleet-nightly-prod`; what no unit may be called becomes a dash."""
    stem = inventory.stem if inventory.suffix in (".yaml", ".yml") else inventory.name
    return "fleet-nightly-" + (re.sub(r"[^A-Za-z0-9_.]+", "-", stem).strip("-") or "all")


def service(timer: Timer, *, system: bool) -> str:
    """A oneshot: while it runs, systemd does not start it again. A night has no limit here; its own are on progress."""
    online = ["Wants=network-online.target", "After=network-online.target"] if system else []
    user = [f"User={timer.user}"] if timer.user else []
    lines = [
        timer.mark,
        "[Unit]",
        f"Description=fleet: the night of {_text(timer.name.removeprefix('fleet-nightly-'))}",
        *online,
        "",
        "[Service]",
        "Type=oneshot",
        *user,
        f"WorkingDirectory={_path(timer.directory)}",
        f"EnvironmentFile={_path(timer.environment)}",
        f"ExecStart={' '.join(_word(word) for word in timer.program)}",
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={timer.name}",
        "TimeoutStartSec=infinity",
        # Ctrl-C's way: the nightly alone gets the signal, and puts back what it was replacing.
        "KillMode=mixed",
        # And its exit code: who stops a night is not told afterwards that a unit has failed.
        "SuccessExitStatus=130",
        f"TimeoutStopSec={_STOP_SECONDS}",
    ]
    return "\n".join(lines) + "\n"


def timer_unit(timer: Timer) -> str:
    """Not persistent: a controller that was off at night does not start one in the morning, under everybody's eyes."""
    lines = [
        timer.mark,
        "[Unit]",
        f"Description=fleet: when the night of {_text(timer.name.removeprefix('fleet-nightly-'))} starts",
        "",
        "[Timer]",
        f"OnCalendar={calendar(timer.schedule)}",
        f"RandomizedDelaySec={timer.jitter}min",
        "AccuracySec=1min",
        "Persistent=false",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def calendar(schedule: str) -> str:
    """`Sat..Mon 02:30` as `Mon,Sat,Sun *-*-* 02:30:00`: systemd refuses a range over the week's end."""
    days, _, time = schedule.rpartition(" ")
    names = ",".join(DAYS[day] for day in weekdays(days)) if days else ""
    return f"{names} *-*-* {time}:00".strip()


def cron_line(timer: Timer, controller: str) -> str:
    """The file for /etc/cron.d. `controller` is this machine's name: with the fleet's it settles the delay.

    flock keeps a second one from starting; the output of the last night alone is kept, the reports stand beside it.
    """
    lock, log = (shlex.quote(str(path)) for path in timer.traces)
    script = "; ".join(
        (
            f"cd {shlex.quote(str(timer.directory))} || exit 1",
            "mkdir -p .fleet/nights",
            f"sleep {delay(timer, controller)}",
            "set -a",
            f". {shlex.quote(str(timer.environment))}",
            "set +a",
            f"exec flock --nonblock {lock} {shlex.join(timer.program)} > {log} 2>&1",
        )
    )
    line = f"{cron_times(timer.schedule)} {timer.user or 'root'} {script}".replace("%", "\\%")
    return f"{timer.mark}\nSHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{line}\n"


def cron_times(schedule: str) -> str:
    """`Mon..Fri 02:30` as `30 2 * * 1,2,3,4,5`."""
    days, _, time = schedule.rpartition(" ")
    hour, minute = time.split(":")
    numbers = ",".join(str((day + 1) % 7) for day in weekdays(days)) if days else "*"
    return f"{int(minute)} {int(hour)} * * {numbers}"


def delay(timer: Timer, controller: str) -> int:
    """Seconds, less than the jitter and the same every night: cron has no random delay."""
    digest = hashlib.sha256(f"{controller} {timer.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % (timer.jitter * 60) if timer.jitter else 0


def environment_text(timer: Timer) -> str:
    """The environment file as it begins: names of what the inventory asks for, and no values."""
    wanted = [f"# {name}=''" for name in timer.secrets] or ["# the inventory takes no secret from the environment"]
    head = [timer.mark, "# NAME='value' lines, read by systemd and by sh alike; this file is for its owner alone."]
    return "\n".join((*head, *wanted)) + "\n"


def weekdays(text: str) -> tuple[int, ...]:
    """`Mon..Wed,Sun` as (0, 1, 2, 6); all seven for "". A range may go over the week's end."""
    if not text:
        return tuple(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("..")
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if last else 0
        found |= {(start + step) % 7 for step in range(length + 1)}
    return tuple(sorted(found))


def upcoming(schedule: str, now: datetime) -> datetime:
    """When it starts next after `now`, before any delay; in the time zone of `now`."""
    days, _, time = schedule.rpartition(" ")
    hour, minute = (int(part) for part in time.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    allowed = weekdays(days)
    return next(day for day in _days_from(today) if day > now and day.weekday() in allowed)


def _days_from(first: datetime) -> Sequence[datetime]:
    return [first + timedelta(days=number) for number in range(9)]


def _word(word: str) -> str:
    """One argument of ExecStart: quoted, with systemd's specifiers and variables made plain."""
    word = _text(word).replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./:=@%$+-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _path(path: Path) -> str:
    """A path of its own line, which takes no quotes; a backslash or a space at its end would be read otherwise."""
    text = _text(str(path))
    if text != text.strip() or text.endswith("\\"):
        raise UsageError(f"systemd cannot be told the path {text!r}", hint="use one that ends in a letter or a digit")
    return text


def _text(text: str) -> str:
    if any(ord(char) < 32 for char in text):
        raise UsageError(f"{text!r} holds a control character, which neither systemd nor cron can be told")
    return text.replace("%", "%%")
