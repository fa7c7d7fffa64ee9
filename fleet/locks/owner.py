"""Who holds the lock of a host: what goes into the holder's arguments, and what is read of it."""

import getpass
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from fleet.errors import HostError

SCHEMA = 1
MARK = "fleet-lock"
SWITCH = "fleet-switch"  # the holder's name while it runs the dead man's switch
PLAIN = "@:+,/"  # beside letters, digits and _.-~; everything else travels as %XX


@dataclass(frozen=True)
class Owner:
    """Whose lock it is. `since` is in seconds since the epoch by the controller's clock; for people only."""

    who: str
    run: str
    controller: str
    since: float

    @classmethod
    def here(cls, run: str) -> "Owner":
        """The user of this process, on this machine, now."""
        try:
            who = getpass.getuser()
        except (OSError, KeyError):  # a uid without a name
            who = "somebody"
        return cls(who, run, socket.gethostname(), time.time())

    def before(self, other: "Owner") -> bool:
        """Did this run begin first? Every controller answers alike: a holder's words carry whole seconds, and a run's id."""
        return (round(self.since), self.run) < (round(other.since), other.run)

    def words(self) -> tuple[str, ...]:
        values = {"who": self.who, "run": self.run, "controller": self.controller, "since": f"{self.since:.0f}"}
        return (f"schema={SCHEMA}", *(f"{key}={quote(value, safe=PLAIN)}" for key, value in values.items()))


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock. What cannot be read (another user's, under hidepid) is None."""

    owner: Owner | None = None
    pid: int | None = None
    held: float | None = None  # seconds by the host's monotonic clock
    firing: bool = False  # it runs the dead man's switch

    def __str__(self) -> str:
        if self.owner is None:
            return "somebody who cannot be read"
        since = datetime.fromtimestamp(self.owner.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        held = f", {_span(self.held)}" if self.held is not None else ""
        firing = "; its controller is gone and it puts the old container back" if self.firing else ""
        return f"{self.owner.who} on {self.owner.controller}, run {self.owner.run}, since {since}{held}{firing}"


class LockedError(HostError):
    """Somebody else holds the lock of the host."""

    def __init__(self, host: str, holder: Holder) -> None:
        hint = f"wait with --lock-wait 5m, or end it: invoke unlock -i INVENTORY --limit {host}"
        super().__init__(host, f"the host is locked by {holder}", hint=hint)
        self.holder = holder


@dataclass(frozen=True)
class Look:
    """What holder.sh said. `state` is its first word that says how things stand; `holder` the process, if any."""

    state: str
    holder: Holder | None


STATES = ("held", "busy", "free", "missing", "nowhere", "failed")


def read_look(host: str, lines: Iterable[str]) -> Look:
    """Lines of holder.sh -> Look; lines that are not its own (a login banner) are skipped.

    Raises HostError when the holder is of a newer schema.
    """
    state, inode, uptime = "", "", 0.0
    found: list[tuple[int, int, str, list[str]]] = []
    for line in lines:
        mark, _, rest = line.partition(" ")
        verb, _, value = rest.partition(" ")
        if mark != MARK:
            continue
        if verb in STATES:
            state = state or verb
        elif verb == "inode":
            inode = value
        elif verb == "uptime":
            uptime = float(value)
        elif verb == "process":
            numbers = value.split(" ", 2)
            found.append((int(numbers[0]), int(numbers[1]), numbers[2].strip("()"), []))
        elif verb == "word" and found:
            found[-1][3].append(value)
    # A command that the holder is just starting bears its name for a moment.
    pids = {pid for pid, _, _, _ in found}
    for pid, parent, comm, words in found:
        values = dict(word.split("=", 1) for word in words if "=" in word)
        if parent not in pids and MARK in words and values.get("inode") == inode:
            return Look(state, _holder(host, pid, comm, values, uptime))
    return Look(state, Holder() if state == "busy" else None)


def _holder(host: str, pid: int, comm: str, values: dict[str, str], uptime: float) -> Holder:
    schema = values.get("schema", "")
    if schema != str(SCHEMA):
        message = (
            f"the host is locked by another version of fleet (lock schema {schema or '?'}, this one knows {SCHEMA})"
        )
        raise HostError(host, message, hint="use that version, or update this one")
    who, run, controller = (unquote(values.get(key, "?")) for key in ("who", "run", "controller"))
    try:
        since, taken = float(values["since"]), float(values["uptime"])
    except (KeyError, ValueError):
        since, taken = 0.0, uptime
    return Holder(Owner(who, run, controller, since), pid, uptime - taken, comm == SWITCH)


def _span(seconds: float) -> str:
    """How long ago, so coarse that the hosts of one run, which it locked side by side, say the same."""
    whole = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit} ago"
    return "less than 2 min ago"
