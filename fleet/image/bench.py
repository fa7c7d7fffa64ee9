"""A directory on a builder that does not outlive whoever works in it, whatever ends them: Ctrl-C, kill -9, a lost connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from fleet.errors import HostError
from fleet.transport import Channel, Session

OPENED = 60.0  # seconds for a machine to make a directory
CLEARED = 600.0  # seconds for it to remove one with an image in it
# $1 staging directory. Prints a directory of its own in there, which goes when stdin ends: when the controller lets go of
# it, or is gone. A command in it may need a moment to end as well. What a machine that stopped has left goes after two
# days; nobody builds for so long.
BENCH = r"""
umask 077
find "$1" -maxdepth 1 -name 'build-*' -mtime +2 -exec rm -rf -- {} + 2>/dev/null
mkdir -p -- "$1" && work=$(mktemp -d "$1/build-XXXXXXXX") || exit 1
trap 'for _ in 1 2 3 4 5 6; do rm -rf -- "$work" 2>/dev/null; [ -e "$work" ] || break; sleep 2; done' EXIT
trap 'exit 129' HUP INT TERM PIPE
echo "$work"
read -r _
"""


@contextmanager
def bench(session: Session, staging: str) -> Iterator[str]:
    """A fresh directory below `staging`, made under sudo where become is set. Takes one channel. Raises HostError."""
    with session.open_process(("sh", "-c", BENCH, "sh", staging), sudo=True, lasting=True) as keeper:
        yield _path_of(keeper, session.host.name, staging)
        keeper.shutdown_write()
        keeper.exit_code(CLEARED)


def _path_of(keeper: Channel, host: str, staging: str) -> str:
    keeper.settimeout(OPENED)
    said = b""
    try:
        while not said.endswith(b"\n") and (piece := keeper.recv(4096)):
            said += piece
        if said.endswith(b"\n"):
            return said.decode(errors="replace").rstrip("\n")
        reason = keeper.recv_stderr(4096).decode(errors="replace").strip()
    except TimeoutError:
        reason = f"no answer for {OPENED:g} s"
    raise HostError(
        host,
        f"no directory could be made in {staging}: {reason or 'the connection was lost'}",
        hint="set fleet.staging_dir to a directory that is yours or that you can make",
    )
