"""The holder's program and the lines that it understands."""

import shlex
from collections.abc import Sequence
from importlib.resources import files

from fleet.errors import FleetError

Commands = Sequence[Sequence[str]]

BOOT = files("fleet.locks").joinpath("boot.sh").read_text("utf-8")
PROGRAM = files("fleet.locks").joinpath("holder.sh").read_text("utf-8")
LONGEST = (
    3500  # bytes; lines of the holder's pipe must stay whole, and POSIX promises it up to PIPE_BUF (4096 on Linux)
)

# Command words of the holder, with seconds: until the engine answers; until no process holds a GPU. Behind the latter may
# stand the containers that are to be started: while they still run, it waits for nothing.
WAIT_ENGINE = ("wait_engine", "60")
WAIT_GPUS_IDLE = ("wait_gpus_idle", "30")


def switch_lines(commands: Commands) -> tuple[str, ...]:
    """The commands of a dead man's switch, quoted for the holder's shell, one line each.

    Raises FleetError for what a line cannot carry: control characters, an empty or an over-long command.
    """
    lines = []
    for argv in commands:
        text = shlex.join(argv)
        if not argv or any(ord(letter) < 32 or ord(letter) == 127 for letter in text) or len(text.encode()) > LONGEST:
            raise FleetError(f"a host's switch cannot carry the command {text[:80]!r}")
        lines.append(f"run {text}")
    return tuple(lines)
