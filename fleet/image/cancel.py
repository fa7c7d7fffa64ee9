"""A RUN step that goes on although its build was cancelled, which BuildKit lets happen (moby/buildkit#2855), is ended by us.

Measured with Docker 26.1 at a load of 20: of 93 builds that were cancelled within three seconds, 10 let a step that was just
starting run to its end. Its processes are told by a name in `no_proxy` that only this build has: BuildKit gives the predefined proxy
arguments to every step, and neither its cache nor the image's history knows of them.
"""

from pathlib import Path

from fleet.image.build_plan import Command
from fleet.image.machine import Machine

# $1 the name. For half a minute, ends what has it and is in a container. Only root sees whose variables are whose.
SWEEP = r"""
own=$(readlink /proc/self/ns/pid)
for _ in $(seq 30); do
  for file in $(grep -lsF -e "$1" /proc/[0-9]*/environ); do
    pid=${file#/proc/} pid=${pid%/environ}
    [ "$(readlink "/proc/$pid/ns/pid")" = "$own" ] || kill -KILL "$pid"
  done
  sleep 1
done
"""
# $1 the name, $2 SWEEP, then the build. When it is ended from outside, what looks for its steps stays behind.
SCRIPT = r"""
mark=$1 sweep=$2
shift 2
child=
end() {
  trap '' HUP INT TERM
  [ -z "$child" ] || kill "$child" 2>/dev/null
  env -u no_proxy -u NO_PROXY setsid sh -c "$sweep" sh "$mark" </dev/null >/dev/null 2>&1 &
  wait "$child"
  exit 129
}
trap end HUP INT TERM
"$@" &
child=$!
wait "$child"
"""
NAMES = ("NO_PROXY", "no_proxy")


def cancellable(asked: Command, mark: str) -> Command:
    """The same build, with steps that are told by `mark` and end with it."""
    known = next((value for name in NAMES if (value := asked.environment.get(name))), "")
    flags = tuple(word for name in NAMES if name not in asked.environment for word in ("--build-arg", name))
    told = dict.fromkeys(NAMES, f"{known},{mark}" if known else mark)
    *words, context = asked.argv
    argv = ("sh", "-c", SCRIPT, "sh", mark, SWEEP, *words, *flags, context)
    return Command(argv, {**asked.environment, **told})


def runs_on(machine: Machine, dockerfile: Path) -> str:
    """What to say of a build that was cancelled and whose step cannot be ended, in words; "" where it can be."""
    if declares(dockerfile):
        why = f"{dockerfile.name} has an ARG NO_PROXY, by which it would be told"
    elif machine.run(("id", "-u")).stdout.strip() != "0":
        why = "ending it takes root there"
    else:
        return ""
    return f"the RUN step that was under way may go on to its end: {why} (docs/images.md)"


def declares(dockerfile: Path) -> bool:
    """Whether a Dockerfile may have an ARG of these names: then they count for its cache."""
    return "no_proxy" in dockerfile.read_text(encoding="utf-8", errors="replace").lower()
