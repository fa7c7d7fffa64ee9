"""Giving the locks of a run back."""

from typing import cast

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
