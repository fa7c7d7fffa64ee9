"""Giving the locks of a run back."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import pytest

from fleet.errors import HostError
from fleet.locks import Holder, HostLock, LockedError, Owner
from fleet.rollout.claims import GIVE_WAY, Claims


class Lock:
    def __init__(self, *, armed: bool) -> None:
        self.armed = armed
        self.over = False
        self.said: list[str] = []

    def abandon(self) -> None:
        self.said.append("abandon")

    def release(self) -> None:
        self.said.append("release")


@pytest.mark.parametrize(("armed", "said"), [(False, ["release"]), (True, ["abandon"])])
def test_a_host_left_in_the_middle_of_a_change_is_left_to_its_switch(armed: bool, said: list[str]) -> None:
    lock = Lock(armed=armed)
    claims = Claims(Owner("me", "run", "here", 0.0))
    claims._locks["n1"] = cast("HostLock", lock)
    claims.release(["n1", "n1"])
    assert lock.said == said


def holder(*, firing: bool) -> LockedError:
    return LockedError("n1", Holder(Owner("ann", "run-1", "laptop", 0.0), firing=firing))


@pytest.mark.parametrize(("firing", "naps"), [(False, 0), (True, 3)])
def test_only_a_host_that_puts_back_by_itself_is_waited_for_unasked(
    firing: bool, naps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(Owner("me", "run", "here", 0.0))
    slept: list[float] = []
    said: list[str] = []
    monkeypatch.setattr(claims, "_attempt", lambda *_: {} if len(slept) == 3 else {"n1": holder(firing=firing)})
    missing = claims.take(
        {}, forks=1, wait=0, say=lambda _, text: said.append(text), clock=lambda: sum(slept), sleep=slept.append
    )
    assert len(slept) == naps
    assert bool(missing) is not firing
    assert len(said) == int(firing)
    assert all("it puts the old container back; waiting up to 120 s" in text for text in said)


class Locks:
    """Two hosts; `free(moment)` is what can be had then, and rivals hold the rest."""

    def __init__(self, claims: Claims, free: Callable[[float], Collection[str]], rival: Holder) -> None:
        self.claims, self.free, self.rival = claims, free, rival
        self.now = 0.0
        self.naps: list[tuple[float, frozenset[str]]] = []
        self.said: list[str] = []

    def attempt(self, sessions: Mapping[str, object], _forks: int) -> dict[str, HostError]:
        free = self.free(self.now)
        for name in sessions:
            if name in free and name not in self.claims._locks:
                self.claims._locks[name] = cast("HostLock", Lock(armed=False))
        return {name: LockedError(name, self.rival) for name in sessions if name not in self.claims._locks}

    def sleep(self, seconds: float) -> None:
        self.naps.append((seconds, frozenset(self.claims._locks)))
        self.now += seconds

    def take(self, *, wait: float) -> set[str]:
        """The hosts that could not be had."""
        sessions: Any = dict.fromkeys(("n1", "n2"))
        return set(
            self.claims.take(
                sessions,
                forks=1,
                wait=wait,
                say=lambda _, text: self.said.append(text),
                clock=lambda: self.now,
                sleep=self.sleep,
            )
        )


def locks(
    free: Callable[[float], Collection[str]], *, since: float, held: float, monkeypatch: pytest.MonkeyPatch
) -> Locks:
    """Ours began at second 100, the rival at `since`."""
    made = Locks(
        Claims(Owner("me", "run", "here", 100.0)), free, Holder(Owner("ann", "run-1", "laptop", since), 7, held)
    )
    monkeypatch.setattr(made.claims, "_attempt", made.attempt)
    return made


BOTH = ("n1", "n2")


def test_of_two_runs_that_take_the_same_hosts_at_once_the_one_that_began_first_keeps_what_it_has_and_gets_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = locks(lambda now: BOTH if now >= 1 else ("n1",), since=101, held=0, monkeypatch=monkeypatch)
    assert ours.take(wait=0) == set()
    assert ours.naps == [(0.5, frozenset({"n1"}))] * 2
    assert ours.said == []


def test_the_one_that_began_later_gives_way_once_and_takes_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = locks(lambda _: ("n1",), since=99, held=0, monkeypatch=monkeypatch)
    assert ours.take(wait=0) == {"n2"}
    assert ours.naps == [(GIVE_WAY, frozenset())]
    assert ours.claims.holds("n1")


@pytest.mark.parametrize("since", [99, 101])
def test_a_run_that_has_its_hosts_for_long_is_no_rival(since: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = locks(lambda _: ("n1",), since=since, held=600, monkeypatch=monkeypatch)
    assert ours.take(wait=0) == {"n2"}
    assert ours.naps == []
    assert not ours.claims.waited


def test_whoever_waits_holds_nothing_meanwhile_says_so_once_and_knows_that_it_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = locks(lambda now: BOTH if now > 60 else ("n1",), since=99, held=600, monkeypatch=monkeypatch)
    assert ours.take(wait=300) == set()
    assert {held for _, held in ours.naps} == {frozenset()}
    assert len(ours.said) == 1
    assert ours.said[0].endswith("waiting up to 300 s")
    assert ours.claims.waited


class Host:
    name = "n1"


class Line:
    """A session as far as a claim looks at it."""

    host = Host()


@pytest.mark.parametrize(
    ("holder_run", "ended"),
    [
        ("", 0),  # nobody holds it: the host has noticed that we were gone
        ("run", 1),  # our own holder, whose host has not
    ],
)
def test_a_host_whose_connection_broke_is_claimed_again(
    holder_run: str, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(Owner("me", "run", "here", 0.0))
    lock = Lock(armed=False)
    claims._locks["n1"] = cast("HostLock", lock)
    unlocked: list[object] = []
    claimed: list[object] = []

    def claim(session: object) -> None:
        if holder_run and not unlocked:
            raise LockedError("n1", Holder(Owner("me", holder_run, "here", 0.4)))
        claimed.append(session)

    monkeypatch.setattr(claims, "_claim", claim)
    monkeypatch.setattr("fleet.rollout.claims.end_lock", lambda session, **_: unlocked.append(session))
    session: Any = Line()
    claims.again(session)
    assert lock.said == ["abandon"]
    assert claimed == [session]
    assert len(unlocked) == ended


def test_a_host_that_another_run_took_meanwhile_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(Owner("me", "run", "here", 0.0))
    claims._locks["n1"] = cast("HostLock", Lock(armed=False))

    def claim(_session: object) -> None:
        raise holder(firing=False)

    monkeypatch.setattr(claims, "_claim", claim)
    session: Any = Line()
    with pytest.raises(LockedError, match="ann on laptop"):
        claims.again(session)
