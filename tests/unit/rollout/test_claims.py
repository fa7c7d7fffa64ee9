"""Giving the locks of a run back."""

from typing import Any, cast

import pytest

from fleet.locks import Holder, HostLock, LockedError, Owner
from fleet.rollout.claims import Claims


class Lock:
    def __init__(self, *, armed: bool) -> None:
        self.armed = armed
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
