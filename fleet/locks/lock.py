"""The lock of one host, seen from the controller."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from fleet.errors import HostError
from fleet.locks.owner import MARK, Holder, LockedError, Look, Owner, read_look
from fleet.locks.program import BOOT, PROGRAM, Commands, switch_lines
from fleet.transport import Channel, Session

PLACE = "/run"  # of every host, readable by everybody, on no disk; flock(2) asks for no more
ANSWER = 20.0  # seconds for the holder to answer a line
START = 60.0  # seconds for it to start on a loaded host
UNKNOWN = 3  # tries before "somebody who cannot be read": a holder that starts or a look that passes needs a moment
REASONS = {
    "lease": "its lease ended: the host heard nothing for too long",
    "ended": "somebody ended it (invoke unlock), or the host is shutting down",
    "left": "the connection of the lock was closed",
    "broken": "its holder on the host broke",
}


def now() -> float:
    """Seconds that also count while this machine sleeps, as the host's do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostLock:
    """Held by a process on the host, until `release`, until that process hears nothing for `lease` seconds, or until
    the connection ends. In the two latter cases the host runs the commands of `arm`, while it still holds the lock.

    Methods may be called from any thread. Somebody must call `beat` every few seconds: a Heart does.
    """

    def __init__(self, host: str, channel: Channel, owner: Owner, lease: float, clock: Callable[[], float]) -> None:
        self.host = host
        self.owner = owner
        self.lease = lease
        self.armed = False  # as far as we know; when in doubt, True
        self.lost = ""  # why; empty while all is well
        self.over = False  # released, abandoned or lost
        self._leaving = False
        self._channel = channel
        self._clock = clock
        self._io = threading.RLock()
        self._rest = b""
        self._number = 0
        self._acked = 0
        self._sent: dict[int, float] = {}
        self._fresh = clock()  # the holder surely heard of us after this moment

    @classmethod
    def take(
        cls,
        session: Session,
        owner: Owner,
        *,
        wait: float = 0,
        lease: float = 60,
        place: str = PLACE,
        shell: str = "sh",
        clock: Callable[[], float] = now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "HostLock":
        """Take the lock, under sudo where become is set; wait for it at most `wait` seconds.

        Raises LockedError that names the holder, HostError without flock(1) on the host or when a newer fleet holds it.
        """
        until = clock() + wait
        unknown = 0
        while True:
            asked = clock()
            found = _attempt(session, owner, lease, place, shell)
            if isinstance(found, Channel):
                lock = cls(session.host.name, found, owner, lease, clock)
                lock._fresh = asked
                return lock
            unknown = unknown + 1 if found.owner is None else 0
            left = until - clock()
            if left <= 0 and not 0 < unknown < UNKNOWN:
                raise LockedError(session.host.name, found)
            # Those who wait for one lock do not ask in step.
            sleep(0.5 if unknown else min(left, random.uniform(1, 3)))  # noqa: S311  no secret

    # The dead man's switch

    def arm(self, commands: Commands) -> None:
        """Have the host run these commands, in order, if we vanish. Replaces earlier ones; armed when this returns."""
        lines = switch_lines(commands)
        self.check()
        self.armed = True
        self._tell((*lines, "arm"))

    def disarm(self) -> None:
        """Nothing is to be run if we vanish. Raises HostError when the host did not confirm it."""
        self._tell(("disarm",))
        self.armed = False

    # Life

    def beat(self) -> None:
        """Say that we live. Waits for no answer, but may wait for a stuck connection: call it where that hurts nobody."""
        with self._io:
            if not self.over:
                self._send(("beat",))

    def look(self) -> None:
        """Take in what the holder has said, without waiting; `lost` is up to date afterwards."""
        if self._io.acquire(blocking=False):
            try:
                if not self.over:
                    self._collect(0)
            finally:
                self._io.release()

    def check(self) -> None:
        """Raise HostError unless the host is still ours: call it before every effect.

        No round trip, unless the last sign of the holder is older than half of the lease.
        """
        self.look()
        if not self.over and self._age() > self.lease / 2:
            self._exchange(("beat",), min(ANSWER, self.lease / 4))
        if not self.over and self._age() > self.lease / 2:
            self._lose(f"no sign of its holder for {self._age():.0f} s")
        if self.lost:
            hint = "another run may work on the host now; look with `invoke status`, then start again"
            raise HostError(self.host, f"lost the lock of {self.host}: {self.lost}", hint=hint)
        if self.over:
            raise HostError(self.host, f"the lock of {self.host} was given back before the work was done")

    def release(self) -> None:
        """Give the lock back; the host runs nothing. Twice is once.

        Raises HostError only if the switch was armed and the host could not be told.
        """
        already, self._leaving = self.over, True
        if not already and self._exchange(("release",), ANSWER):
            self.armed = False
        unclear = self.armed and not already
        self.over = True
        self._channel.close()
        if unclear:
            message = "the lock could not be given back in order, so the host runs its switch by itself"
            raise HostError(self.host, message, hint="look with `invoke status`")

    def abandon(self) -> None:
        """Close the connection of the lock: the host runs its switch at once, if armed, and gives the lock free."""
        self.over = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Released; but whoever leaves while armed did not finish, so the host puts the old state back."""
        if self.armed:
            self.abandon()
        else:
            self.release()

    # Lines

    def _tell(self, lines: Sequence[str]) -> None:
        if self.over or not self._exchange(lines, ANSWER):
            why = self.lost or "it was given back" if self.over else f"its holder did not answer in {ANSWER:g} s"
            raise HostError(self.host, f"lost the lock of {self.host} at `{lines[-1]}`: {why}")

    def _exchange(self, lines: Sequence[str], patience: float) -> bool:
        """Send lines and wait until the holder confirms the last of them."""
        until = self._clock() + patience
        if not self._io.acquire(timeout=patience):
            return False
        try:
            number = self._send(lines)
            while not self.over and self._acked < number and (left := until - self._clock()) > 0:
                self._collect(left)
            return self._acked >= number
        finally:
            self._io.release()

    def _send(self, lines: Sequence[str]) -> int:
        self._number += 1
        self._sent[self._number] = self._clock()
        text = "\n".join(lines) + f" {self._number}\n"
        try:
            self._channel.settimeout(ANSWER)
            self._channel.sendall(text.encode())
        except OSError:  # a TimeoutError may have left half a line behind
            self._collect(0)
            self._lose("the connection was lost")
        return self._number

    def _collect(self, patience: float) -> None:
        """Read what is there, waiting `patience` seconds for a first piece."""
        self._channel.settimeout(patience)
        with contextlib.suppress(TimeoutError):
            while True:
                try:
                    data = self._channel.recv(4096)
                except TimeoutError:
                    raise
                except OSError:
                    data = b""
                if not data:
                    self._lose("the connection was lost")
                    return
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._heard(line.decode(errors="replace"))
                self._channel.settimeout(0)

    def _heard(self, line: str) -> None:
        match line.split(" "):
            case [mark, "ok", number] if mark == MARK and number.isdecimal():
                self._acked = max(self._acked, int(number))
                for known in [known for known in self._sent if known <= self._acked]:
                    self._fresh = max(self._fresh, self._sent.pop(known))
            case [mark, "over", reason] if mark == MARK:
                self._lose(REASONS.get(reason, reason))

    def _age(self) -> float:
        return self._clock() - self._fresh

    def _lose(self, why: str) -> None:
        if not self.over:
            self.lost, self.over = "" if self._leaving else why, True


def complain(host: str, look: Look, place: str = PLACE) -> HostError:
    """Why there is no answer about a lock."""
    match look.state:
        case "missing":
            hint = "install util-linux (apt-get install util-linux; dnf install util-linux)"
            return HostError(host, "there is no flock command on the host, so it cannot be locked", hint=hint)
        case "nowhere":
            return HostError(host, f"the host's lock needs the directory {place}, which cannot be opened there")
        case "failed":
            return HostError(host, f"flock cannot lock {place} on the host")
    return HostError(host, "the lock's holder did not start on the host")


def _attempt(session: Session, owner: Owner, lease: float, place: str, shell: str) -> Channel | Holder:
    """Start a holder: its channel, or the one that is there already."""
    argv = ("sh", "-c", BOOT, "sh", "take", place, shell, f"{lease:.0f}", *owner.words())
    channel = session.open_process(argv, sudo=True, lasting=True)
    try:
        channel.settimeout(START)
        with contextlib.suppress(BrokenPipeError):  # what it said before it went is read below
            channel.sendall(f"{PROGRAM}#end\n".encode())
        said = _first_words(channel)
        look = read_look(session.host.name, said.splitlines())
        if look.state == "held":
            return channel
        if look.holder is not None:
            channel.close()
            return look.holder
        error = complain(session.host.name, look, place)
        error.tail = tuple(_complaint(channel).splitlines()[-4:])
        raise error
    except TimeoutError as error:
        channel.close()
        message = f"the lock's holder did not start in {START:g} s"
        raise HostError(session.host.name, message, hint="is the host overloaded?") from error
    except BaseException:
        channel.close()
        raise


def _first_words(channel: Channel) -> str:
    """Everything up to the line that says held, or to the end."""
    said = b""
    while f"{MARK} held\n".encode() not in said:
        data = channel.recv(4096)
        if not data:
            break
        said += data
    return said.decode(errors="replace")


def _complaint(channel: Channel) -> str:
    channel.settimeout(2)
    with contextlib.suppress(OSError):
        return channel.recv_stderr(4096).decode(errors="replace").strip()
    return ""
