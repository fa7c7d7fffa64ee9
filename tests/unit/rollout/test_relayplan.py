"""Relays in the plans of a run: the way and the bytes of each host, and what is said where it goes otherwise."""

from dataclasses import replace
from typing import Any, cast

from fleet.delivery.plan import Load, Step
from fleet.delivery.relay import Ground
from fleet.delivery.staging import Staging
from fleet.errors import HostError
from fleet.image.release import Release
from fleet.inventory.model import Connection, Host, Origin
from fleet.inventory.settings import Relay, Settings
from fleet.rollout.hostplan import HostPlan
from fleet.rollout.relayplan import arrange
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.site import Site, Wishes

RELEASE = Release("vllm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (100,), "s")
REGISTRY = Release("fleet-relay", "sha256:" + "2" * 64, "sha256:r", ("sha256:q",), ("sha256:p",), (9,), "s")
IMAGE = Load(REGISTRY.local_name, (0,), 9, "")


class Session:
    """Only what plans ask of one."""

    via = ("jump@gate",)
    user = "ops"


class User:
    def __init__(self, uid: int) -> None:
        self.uid = uid


class FactsOf:
    def __init__(self, uid: int) -> None:
        self.user = User(uid)
        self.space: dict[str, Any] = {}


def outcome(name: str, *, steps: tuple[Step, ...] = (), uid: int = 0, relay: Relay | None = None) -> Outcome:
    settings = Settings(relay=relay or Relay())
    host = Host(name, ("all",), Connection(f"10.0.0.{name[1:]}"), settings, {}, {"fleet.relay": Origin("i.yaml", 3)})
    facts, session = cast("Any", FactsOf(uid)), cast("Any", Session())
    site = Site(
        host,
        session,
        cast("Any", None),
        facts,
        (),
        None,
        HostPlan(name, steps),
        Ground(Staging("/s", 1 << 40)),
        (IMAGE,),
    )
    return Outcome(name, site)


def load() -> tuple[Step, ...]:
    return (Load(RELEASE.local_name, (0,), 100, ""),)


def arranged(*given: Outcome) -> dict[str, HostPlan]:
    found = {one.host: one for one in given}
    wishes = Wishes(
        {name: {"chat": RELEASE} for name in found}, relays=dict.fromkeys(found, REGISTRY), fingerprint="f" * 64
    )
    arrange(found, wishes)
    return {name: site_of(one).plan for name, one in found.items()}


def words(plan: HostPlan) -> list[str]:
    return [line.what.partition(" ")[0] for line in plan.lines if line.changes]


def test_the_relay_gets_its_bytes_once_and_the_others_theirs_from_it() -> None:
    plans = arranged(outcome("n1", steps=load()), outcome("n2", steps=load()), outcome("n3"))
    assert words(plans["n1"]) == ["sideload", "start", "fill", "write", "pull", "tag", "remove", "remove"]
    assert words(plans["n2"]) == ["write", "pull", "tag", "remove"]
    assert {line.way for line in plans["n2"].lines if line.size} == {"from relay n1"}
    assert [plan.size for plan in plans.values()] == [109, 100, 0]
    assert plans["n2"].images == load()  # what is fallen back to


def test_nothing_to_bring_needs_no_relay_and_one_that_has_all_serves_the_others() -> None:
    assert arranged(outcome("n1"), outcome("n2"))["n1"].relayed == ()
    plans = arranged(outcome("n1"), outcome("n2", steps=load()))
    assert words(plans["n1"]) == ["sideload", "start", "fill", "remove"]


def test_what_is_kept_is_not_removed() -> None:
    keep = Relay(keep=True)
    plans = arranged(outcome("n1", steps=load(), relay=keep), outcome("n2", steps=load(), relay=keep))
    assert "remove" not in [*words(plans["n1"]), *words(plans["n2"])]


def test_without_root_a_host_is_no_relay_and_goes_its_own_way_and_says_so() -> None:
    plans = arranged(outcome("n1", steps=load(), uid=1000), outcome("n2", steps=load()))
    assert words(plans["n1"]) == ["sideload"]
    assert "only root may place the CA of relay n2" in plans["n1"].notes[0]
    assert "start" in words(plans["n2"])
    alone = arranged(outcome("n1", steps=load(), uid=1000), outcome("n2", steps=load(), uid=1000))
    assert all("none of its group can be a relay" in plan.notes[0] for plan in alone.values())


def test_a_named_host_that_cannot_serve_is_said() -> None:
    named = Relay("n1")
    failed = outcome("n1", relay=named)
    failed = replace(failed, error=HostError("n1", "is not fit"))
    plans = arranged(failed, *(outcome(name, steps=load(), relay=named) for name in ("n2", "n3")))
    assert plans["n3"].notes == ("n1 cannot be the relay: it is not ready",)
    assert {line.way for line in plans["n3"].lines if line.size} == {"from relay n2"}
