"""Giving the locks of a run back."""

from typing import cast

import pytest

from fleet.locks import HostLock, Owner
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
