"""Which images come to a host from the builder itself, and what the plan says of it."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.delivery.plan import Keep, Load, Step, Tag
from fleet.image.release import Release
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings, Sideload
from fleet.rollout.straighten import Depots, straighten

RELEASE = Release("vllm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (5,), "source")
BROUGHT = Release("other", "sha256:" + "2" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (5,), "archive")
RELEASES = {"chat": RELEASE, "embed": BROUGHT}
LOAD = Load(RELEASE.local_name, (0,), 5, "the host has no registry", "from b over this controller")
OTHER = Load(BROUGHT.local_name, (0,), 5, "the host has no registry")


class Depot:
    """A builder that `near` hosts reach."""

    name = "b"

    def __init__(self, near: Collection[str]) -> None:
        self.near = near
        self.asked: list[str] = []

    def reach(self, sender: str, release: Release) -> str:
        self.asked.append(sender)
        return "" if sender in self.near else "it does not reach b at 10.0.0.4:5444: refused"


def host(**sideload: Any) -> Host:
    return Host("n1", (), Connection("10.0.0.1"), Settings(sideload=Sideload(**sideload)), {}, {})


def steps(depot: Depot, *given: Step, **sideload: Any) -> tuple[Step, ...]:
    depots: Any = {RELEASE.id: depot}
    sender: Any = "n1"
    return straighten(given, RELEASES, depots, host(**sideload), sender)


def test_what_was_built_comes_straight_where_the_host_reaches_the_builder() -> None:
    built, brought = steps(Depot(["n1"]), LOAD, OTHER)
    assert isinstance(built, Load)
    assert (built.way, built.straight, built.size, built.why) == ("straight from b", True, 5, LOAD.why)
    assert brought == OTHER


def test_elsewhere_it_goes_as_before_and_the_plan_says_why() -> None:
    (step,) = steps(Depot([]), LOAD)
    assert isinstance(step, Load)
    assert (step.way, step.straight) == (LOAD.way, False)
    assert step.why == f"{LOAD.why}; it does not reach b at 10.0.0.4:5444: refused"
    assert step.detour == "it does not reach b at 10.0.0.4:5444: refused"


@pytest.mark.parametrize("given", [Keep("vllm:1", "it is there"), Tag("sha256:c", "vllm:1", "the name is not there")])
def test_nobody_is_asked_where_nothing_has_to_come(given: Step) -> None:
    depot = Depot(["n1"])
    assert steps(depot, given) == (given,)
    assert depot.asked == []


def test_a_host_may_be_kept_from_the_builder() -> None:
    depot = Depot(["n1"])
    assert steps(depot, LOAD, from_builder=False) == (LOAD,)
    assert depot.asked == []


def test_a_builder_is_reached_by_its_own_settings_and_the_smallest_limit_counts() -> None:
    machine: Any = SimpleNamespace(name="b")
    said: list[str] = []
    builder = Host("b", (), Connection("b.corp"), Settings(sideload=Sideload(builder_port=6000)), {}, {})
    moved = Host("b", (), Connection("b.corp"), Settings(sideload=Sideload(builder_address="fd00::4")), {}, {})
    with Depots(said.append) as depots, Depots(said.append) as others:
        hosts = [host(limit="10MB/s"), host(limit="2MB/s"), host()]
        depot = depots.of(machine, builder, "/stage", hosts)
        assert (depot.place, depot.rate) == ("b.corp:6000", 2_000_000)
        assert depots.of(machine, builder, "/stage", hosts) is depot
        assert others.of(machine, moved, "/stage", hosts).place == "[fd00::4]:5444"
