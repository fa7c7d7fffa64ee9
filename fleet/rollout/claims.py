"""The locks of a run: all hosts that it will change are claimed before the first change, or left to whoever has them."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from fleet.errors import HostError
from fleet.locks import Heart, Holder, HostLock, LockedError, Owner, holder_of
from fleet.locks import unlock as end_lock
from fleet.locks.lock import PLACE
from fleet.report.hosts import fold
from fleet.rollout.switch import Switch
from fleet.seam import Described, Seam
from fleet.transport import Session, fan_out

LEASE = 60.0  # seconds without a heartbeat, after which a host takes its lock back
PUTS_BACK = 120.0  # seconds that a host without a controller may need to put its old container back
RACE = 10.0  # seconds: a lock that is held for less was taken by a run that may still be taking others
GIVE_WAY = 5.0  # seconds without any lock, in which the run that goes first takes all of its hosts


@dataclass
class Claims:
    """Locks by host. Use as a context manager: leaving gives every lock back. `place` tells locks of several kinds apart;
    `waited` is set once others were waited for: what was seen of the hosts before is old then.
    """

    owner: Owner
    lease: float = LEASE
    place: str = PLACE
    waited: bool = False
    _heart: Heart = field(default_factory=Heart)
    _locks: dict[str, HostLock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def take(
        self,
        sessions: Mapping[str, Session],
        *,
        forks: int,
        wait: float,
        say: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> dict[str, HostError]:
        """Claim these hosts; returns those that could not be had, with who has them.

        A host whose controller is gone and that puts its old container back is waited for in any case: nobody else
        works on it. While waiting nothing is held: two runs over the same hosts would wait for each other for ever.
        Runs that take the same hosts in the same moment would each get some: the one that began first keeps what it has
        and goes on asking, the other gives way once.
        """
        began = clock()
        told = gave_way = False
        while True:
            missing = self._attempt(sessions, forks)
            others = {name: error.holder for name, error in missing.items() if isinstance(error, LockedError)}
            race = _race(self.owner, others.values()) if clock() - began < RACE else None
            if race is False and (gave_way or not any(map(self.holds, sessions))):
                race = None
            back = PUTS_BACK if any(holder.firing for holder in others.values()) else 0
            patience = max(wait, back, RACE if race is not None else 0)
            left = began + patience - clock()
            if not others or left <= 0:
                return missing
            self.waited = True
            if race:
                sleep(min(left, 0.5))
                continue
            if not told:
                told = True
                _tell(others, f"; waiting up to {patience:.0f} s", say)
            self.release(sessions)
            gave_way = gave_way or race is False
            # Those who wait for one host do not ask in step.
            sleep(min(left, GIVE_WAY if race is False else random.uniform(0.5, 2.0)))  # noqa: S311  no secret

    def guard(self, session: Session) -> Switch:
        """The guard of a host's change; a host that had nothing to do when the run began is claimed now."""
        name = session.host.name
        with self._guard:
            lock = self._locks.get(name)
        return Switch(lock or self._claim(session))

    def again(self, session: Session) -> None:
        """Claim a host anew whose connection broke, and with it our lock. Raises LockedError when somebody else has it.

        The host may not have noticed yet that we are gone: then our own holder is ended there. Not while a container is
        being replaced: that is for the host's switch to end.
        """
        with self._guard:
            lock = self._locks.get(session.host.name)
        if lock is None:
            return
        if lock.armed:
            lock.check()
        lock.abandon()
        try:
            self._claim(session)
        except LockedError as error:
            holder, mine = error.holder.owner, self.owner
            if holder is None or (holder.who, holder.run, holder.controller) != (mine.who, mine.run, mine.controller):
                raise
            end_lock(session, place=self.place)
            self._claim(session)

    def holds(self, host: str) -> bool:
        """Is the host ours, as far as we know?"""
        with self._guard:
            lock = self._locks.get(host)
        return lock is not None and not lock.over

    def check(self, host: str) -> None:
        """Raise HostError when the host was ours and is not any more."""
        with self._guard:
            lock = self._locks.get(host)
        if lock is not None:
            lock.check()

    def release(self, hosts: Iterable[str]) -> None:
        """Give locks back. One whose switch is still armed was left in the middle, and its host puts back at once."""
        for name in hosts:
            with self._guard:
                lock = self._locks.pop(name, None)
            if lock is not None and lock.armed:
                lock.abandon()
            elif lock is not None:
                lock.release()

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release(tuple(self._locks))
        self._heart.stop()

    def _attempt(self, sessions: Mapping[str, Session], forks: int) -> dict[str, HostError]:
        hosts = [session.host for name, session in sessions.items() if name not in self._locks]
        found = fan_out(hosts, lambda host: self._claim(sessions[host.name]), forks=forks)
        return {name: result for name, result in found.items() if isinstance(result, HostError)}

    def _claim(self, session: Session) -> HostLock:
        lock = HostLock.take(session, self.owner, lease=self.lease, place=self.place)
        self._heart.add(lock)
        with self._guard:
            self._locks[session.host.name] = lock
        return lock


def others(sessions: Mapping[str, Session], *, forks: int) -> dict[str, Holder]:
    """Who holds these hosts, of which we hold none. A host that cannot say has no entry."""
    hosts = [session.host for session in sessions.values()]
    found = fan_out(hosts, lambda host: holder_of(sessions[host.name]), forks=forks)
    return {name: one for name, one in found.items() if isinstance(one, Holder)}


def _race(owner: Owner, holders: Iterable[Holder]) -> bool | None:
    """Does `owner` go before all who took their locks just now? None where nobody did. Pure."""
    rivals = [one.owner for one in holders if one.owner and one.held is not None and one.held < RACE and not one.firing]
    return all(owner.before(one) for one in rivals) if rivals else None


def _tell(others: Mapping[str, Holder], more: str, say: Callable[[str, str], None]) -> None:
    """A line for each run that has some of the hosts."""
    runs: dict[tuple[Owner | None, bool], list[str]] = {}
    for name, holder in others.items():
        runs.setdefault((holder.owner, holder.firing), []).append(name)
    for names in runs.values():
        said = f"locked by {others[names[0]]}{more}"
        say(*((names[0], said) if len(names) == 1 else ("", f"{fold(names)}: {said}")))


@dataclass(frozen=True)
class Claimed:
    """A seam that does nothing on a host which was ours and is not any more."""

    seam: Seam
    claims: Claims

    def perform(self, host: str, step: Described, do: Callable[[], None], /) -> None:
        self.claims.check(host)
        self.seam.perform(host, step, do)
