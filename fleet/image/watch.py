"""Commands that may take hours are ended when they say nothing for too long, on the machine where they run.

So they are when nobody waits for them any more: after Ctrl-C, after kill -9 of the controller, when its connection breaks.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import FleetError

STALLED = 75  # sysexits.h, EX_TEMPFAIL
GRACE = 10  # seconds between SIGTERM and SIGKILL

# $1 seconds without a byte on stdout or stderr (0: it may be silent for ever), $2 `setsid` where the command is to run in a
# session of its own, so that its children end with it (they cannot ask a person then), then the command. Nobody writes to
# stdin; it ends with whoever waits for the command. A look every tenth of a second at first, so that what is quick stays quick.
SCRIPT = rf"""
limit=$1 own=$2
shift 2
exec 3<&0
work=$(mktemp -d "${{TMPDIR:-/tmp}}/fleet-watch-XXXXXX") || exit 1
child= waits= out=0 err=0 still=0 rounds=0
end() {{ kill -s "$1" -- "-$child" 2>/dev/null || kill -s "$1" "$child" 2>/dev/null; }}
gently() {{
  end TERM
  for _ in $(seq {GRACE}); do kill -0 "$child" 2>/dev/null || break; sleep 1; done
}}
finish() {{ [ -z "$waits" ] || kill "$waits" 2>/dev/null; [ -z "$child" ] || end KILL; rm -rf -- "$work"; }}
trap finish EXIT
trap 'trap "" HUP INT TERM PIPE; gently; exit 129' HUP INT TERM PIPE
tell() {{
  new=$(($(wc -c <"$work/out")))
  [ "$new" -eq "$out" ] || {{ tail -c "+$((out + 1))" "$work/out" | head -c "$((new - out))"; out=$new still=0; }}
  new=$(($(wc -c <"$work/err")))
  [ "$new" -eq "$err" ] || {{ tail -c "+$((err + 1))" "$work/err" | head -c "$((new - err))" >&2; err=$new still=0; }}
}}
command -v setsid >/dev/null || own=
# The command's own redirections may come later than our first look, on a machine with much to do.
: >"$work/out" && : >"$work/err" || exit 1
$own "$@" </dev/null >"$work/out" 2>"$work/err" 3<&- &
child=$!
{{ read -r _ <&3; kill $$ || end TERM; }} >/dev/null 2>&1 &
waits=$!
while kill -0 "$child" 2>/dev/null; do
  rounds=$((rounds + 1))
  if [ "$rounds" -lt 20 ]; then sleep 0.1; still=$((still + 1)); else sleep 0.5; still=$((still + 5)); fi
  tell
  if [ "$limit" -gt 0 ] && [ "$still" -ge $((limit * 10)) ]; then
    gently
    end KILL
    child=
    exit {STALLED}
  fi
done
wait "$child"
code=$?
child=
tell
exit "$code"
"""


class StalledError(FleetError):
    """A command said nothing for `seconds` and was ended."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} said nothing for {spoken(seconds)} and was ended")
        self.seconds = seconds


def watched(argv: Sequence[str], stall: float, *, session: bool = True) -> tuple[str, ...]:
    """The command that ends `argv`, whose stdin is empty, when it stalls, with STALLED (`stall` 0: never), and when its own
    stdin ends: that has to stay open for as long as somebody waits for it.
    """
    limit = max(int(stall), 1) if stall else 0
    return ("sh", "-c", SCRIPT, "sh", str(limit), "setsid" if session else "", *argv)


@contextmanager
def waiting() -> Iterator[int]:
    """A stdin, as a file descriptor, for a watched command of this machine. It ends with the block, and with this process."""
    reads, writes = os.pipe()
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


def run(
    argv: Sequence[str],
    stall: float = 0,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    session: bool = True,
) -> subprocess.CompletedProcess[str]:
    """A command of this machine, watched, to its end; on Ctrl-C it has ended before we go on. 127 where there is none."""
    with (
        waiting() as stdin,
        subprocess.Popen(
            watched(argv, stall, session=session),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env=environment,
        ) as process,
    ):
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def judged(code: int, stall: float, what: str) -> int:
    """The exit code of such a command. Raises StalledError."""
    if stall and code == STALLED:
        raise StalledError(what, stall)
    return code


def spoken(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
