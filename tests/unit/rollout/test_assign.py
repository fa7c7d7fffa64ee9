"""Plays over an inventory: hosts, canaries, and what the plays ask of each host."""

from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Gpus, Service, Settings
from fleet.playbook import Amount, Distribute, Play, Playbook, Preflight, Prepare, Serve, Verify
from fleet.rollout.assign import assign, peers, without
from fleet.rollout.site import Tuning

CHAT = {"chat": Service(name="chat", model="m")}
NAMES = ("a", "b", "c", "bare", "builder")


def inventory() -> Inventory:
    settings = {name: Settings(services=CHAT, gpus=Gpus(model="MI300X", count=8)) for name in "abc"}
    settings |= {"bare": Settings(gpus=Gpus(model="MI250", count=8)), "builder": Settings(builder="builder")}
    hosts = {name: Host(name, ("all",), Connection(name), settings[name]) for name in NAMES}
    return Inventory(hosts, {"all": NAMES, "canaries": ("b",)}, (Path("prod.yaml"),))


def book(*plays: Play) -> Playbook:
    return Playbook(Path("deploy.yaml"), plays)


def test_each_play_takes_its_pattern_within_the_limit_and_only_hosts_with_something_to_do() -> None:
    everything = inventory()
    chosen = [everything.hosts[name] for name in ("a", "b", "bare", "builder")]
    programme = assign(book(Play("bring", (Distribute(),)), Play("ready", (Prepare(),))), everything, chosen)
    assert [one.hosts for one in programme.assignments] == [("a", "b"), ("a", "b", "bare", "builder")]


def test_a_canary_pattern_is_resolved_over_the_inventory() -> None:
    everything = inventory()
    programme = assign(book(Play("roll", (Serve(),), canary="canaries")), everything, tuple(everything.hosts.values()))
    assert programme.assignments[0].canaries == {"b"}


def test_stages_can_be_narrowed_and_an_unknown_one_is_refused() -> None:
    everything = inventory()
    plays = book(Play("bring", (Preflight(), Distribute())), Play("roll", (Serve(), Verify())))
    programme = assign(plays, everything, tuple(everything.hosts.values()), stages={"verify"})
    assert [sorted(one.stages) for one in programme.assignments] == [["verify"]]
    with pytest.raises(UsageError, match="no stage deploy"):
        assign(plays, everything, (), stages={"deploy"})


def test_what_plays_ask_of_a_host_is_brought_together() -> None:
    everything = inventory()
    plays = book(
        Play("look", (Preflight(strict=True, accept={"iommu": "known"}), Prepare(only=("amdgpu",))), hosts="a"),
        Play("roll", (Serve(prune=True, take_over=("old",)),), min_healthy_time=5, progress_deadline=60),
    )
    programme = assign(plays, everything, tuple(everything.hosts.values()))
    assert programme.tuning["a"] == Tuning(settle=5, strict=True, prepare=("amdgpu",))
    assert programme.tuning["b"] == Tuning(settle=5)
    by_name = {host.name: host for host in programme.hosts}
    assert by_name["a"].settings.accept == {"iommu": "known"}
    assert by_name["b"].settings.services["chat"].progress_deadline == 60
    assert programme.prune
    assert programme.take_over == {"old"}


def test_hosts_outside_the_limit_that_serve_the_same_are_peers_where_a_floor_is_set() -> None:
    everything = inventory()
    chosen = [everything.hosts["a"]]
    rolled = assign(book(Play("roll", (Serve(),), min_available=Amount(1))), everything, chosen)
    assert [host.name for host in peers(rolled, everything)] == ["b", "c"]
    assert peers(assign(book(Play("roll", (Serve(),))), everything, chosen), everything) == ()


def test_hosts_can_be_left_out_of_a_programme() -> None:
    everything = inventory()
    programme = assign(book(Play("roll", (Serve(),))), everything, tuple(everything.hosts.values()))
    assert [one.hosts for one in without(programme, {"a"}).assignments] == [("b", "c")]
    assert without(programme, {"a", "b", "c"}).assignments == ()
