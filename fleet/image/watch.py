"""Commands that may take hours are ended when they say nothing for too long, on the machine where they run."""

from collections.abc import Sequence

from fleet.errors import FleetError

STALLED = 75  # sysexits.h, EX_TEMPFAIL
GRACE = 10  # seconds between SIGTERM and SIGKILL

# $1 seconds without a byte on stdout or stderr, $2 `setsid` where the command is to run in a session of its own, so that its
# children end with it (they cannot ask a person then), then the command. A look every tenth of a second at first, so that what is quick stays quick.
SCRIPT = rf"""
limit=$1 own=$2
shift 2
work=$(mktemp -d "${{TMPDIR:-/tmp}}/fleet-watch-XXXXXX") || exit 1
child= out=0 err=0 still=0 rounds=0
end() {{ kill -s "$1" -- "-$child" 2>/dev/null || kill -s "$1" "$child" 2>/dev/null; }}
finish() {{ [ -z "$child" ] || end KILL; rm -rf -- "$work"; }}
trap finish EXIT
trap 'end TERM; sleep 1; exit 129' HUP INT TERM PIPE
tell() {{
  new=$(($(wc -c <"$work/out")))
  [ "$new" -eq "$out" ] || {{ tail -c "+$((out + 1))" "$work/out" | head -c "$((new - out))"; out=$new still=0; }}
  new=$(($(wc -c <"$work/err")))
  [ "$new" -eq "$err" ] || {{ tail -c "+$((err + 1))" "$work/err" | head -c "$((new - err))" >&2; err=$new still=0; }}
}}
command -v setsid >/dev/null || own=
$own "$@" </dev/null >"$work/out" 2>"$work/err" &
child=$!
while kill -0 "$child" 2>/dev/null; do
  rounds=$((rounds + 1))
  if [ "$rounds" -lt 20 ]; then sleep 0.1; still=$((still + 1)); else sleep 0.5; still=$((still + 5)); fi
  tell
  if [ "$still" -ge $((limit * 10)) ]; then
    end TERM
    for _ in $(seq {GRACE}); do kill -0 "$child" 2>/dev/null || break; sleep 1; done
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
    """The command that ends `argv` when it stalls, with STALLED; `argv` itself for 0. Its stdin is empty."""
    own = "setsid" if session else ""
    return ("sh", "-c", SCRIPT, "sh", str(max(int(stall), 1)), own, *argv) if stall else tuple(argv)


def judged(code: int, stall: float, what: str) -> int:
    """The exit code of such a command. Raises StalledError."""
    if stall and code == STALLED:
        raise StalledError(what, stall)
    return code


def spoken(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
