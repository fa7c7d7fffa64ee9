"""Waiting for a container to become ready: by progress, never by a fixed clock."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.errors import HostError
from fleet.serving.startup import UMBRELLA, Startup


@dataclass(frozen=True)
class Diagnosis:
    """What a known line of trouble means. `fatal` lines end a wait while the container still runs.

    An `umbrella` only says that something failed; whatever else is known goes before it.
    """

    id: str
    cause: str
    fix: str
    fatal: bool = True
    umbrella: bool = False


@dataclass(frozen=True)
class Look:
    """One observation: new log lines since the last one, the container's state, and whether /health said 200."""

    lines: Sequence[str]
    state: str
    exit_code: int = 0
    error: str = ""
    restarts: int = 0
    healthy: bool = False
    out_of_memory: bool = False  # the engine saw the kernel end a process of it


# Of a container that was ended without a word of its own. The engine sees the kernel do it only within a memory limit.
KILLED = Diagnosis(
    "killed",
    "Something on the host killed it: the kernel, because the host's memory ran out, or somebody by hand",
    "on the host: dmesg -T | grep -i 'killed process', and free -g",
)
OUT_OF_MEMORY = Diagnosis(
    "out_of_memory",
    "The kernel killed it because its memory ran out (the host's, not the GPUs')",
    "give it more, or ask for less: fewer GPUs a replica, a smaller cpu-offload-gb or swap-space",
)

Diagnose = Callable[[str], Diagnosis | None]


def wait_ready(
    host: str,
    name: str,
    look: Callable[[], Look],
    *,
    deadline: float,
    diagnose: Diagnose,
    on_phase: Callable[[str], None],
    redact: Callable[[str], str] = str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    pause: float = 1.0,
) -> None:
    """Return once /health answers 200. Raises HostError with cause, fix and the last lines.

    `deadline` is in seconds without any progress: no new phase, no new percentage, no new kind of line.
    """
    startup = Startup()
    marker, since, told = startup.marker, clock(), ""
    restarts = -1
    known: list[tuple[str, Diagnosis]] = []
    while True:
        seen = look()
        for line in seen.lines:
            startup.feed(line)
            if found := diagnose(line):
                known.append((line.strip(), found))
        if seen.healthy:
            return
        restarts = seen.restarts if restarts < 0 else restarts
        error = _error(startup, seen, restarts, known)
        if error:
            raise _failed(host, name, error, startup, known or _killed(seen), redact)
        if startup.told != told:
            told = startup.told
            on_phase(told)
        if startup.marker != marker:
            marker, since = startup.marker, clock()
        elif clock() - since > deadline:
            error = f"made no progress for {deadline:.0f} s (progress_deadline) while {startup.told}"
            raise _failed(host, name, error, startup, known, redact)
        sleep(pause)


def _error(startup: Startup, seen: Look, restarts: int, known: list[tuple[str, Diagnosis]]) -> str:
    """Why waiting on is useless, or empty."""
    during = f" while {startup.told}"
    if seen.state in ("exited", "dead"):
        said = f": {seen.error}" if seen.error else ""
        return f"stopped by itself with {_exit(seen.exit_code)}{during}{said}"
    if seen.state == "restarting" or seen.restarts > restarts:
        return f"keeps crashing ({_exit(seen.exit_code)}){during}"
    if seen.state == "gone":
        return f"was removed by somebody else{during}"
    if startup.fatal or any(found.fatal for _line, found in known):
        return f"failed{during}"
    return ""


def _exit(code: int) -> str:
    """The exit code, with the signal that a shell's or an engine's code above 128 stands for."""
    try:
        return f"exit code {code}, {signal.Signals(code - 128).name}"
    except ValueError:
        return f"exit code {code}"


def _killed(seen: Look) -> list[tuple[str, Diagnosis]]:
    """What is known of a container that said nothing itself."""
    if seen.out_of_memory:
        return [("", OUT_OF_MEMORY)]
    return [("", KILLED)] if seen.exit_code == 128 + signal.SIGKILL else []


def _failed(
    host: str,
    name: str,
    error: str,
    startup: Startup,
    known: list[tuple[str, Diagnosis]],
    redact: Callable[[str], str],
) -> HostError:
    """The first exception says what happened, a known line why and what to do; an umbrella only when it is alone."""
    best = min(known, key=lambda entry: (not entry[1].fatal, entry[1].umbrella), default=None)
    said = startup.exception or startup.fatal
    if best and not best[1].umbrella and (not said or UMBRELLA.search(said)):
        said = best[0]
    message = f"{name} {error}" + (f": {said}" if said and said not in error else "")
    message = message.rstrip(". ")
    if best:
        message += f". {best[1].cause}"
    hint = best[1].fix if best else ""
    return HostError(host, redact(message), hint=redact(hint), tail=tuple(map(redact, startup.tail)))
