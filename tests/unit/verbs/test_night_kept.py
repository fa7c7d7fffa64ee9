"""Nights in which nothing is new, over hosts that are pretended; and what every report says of its hosts."""

from pathlib import Path

from fleet.errors import RefusedError, UnreachableError
from fleet.rollout.seen import Known, Seen, write
from tests.unit.verbs.conftest import OLD, World


def test_a_host_that_was_away_gets_the_last_good_release_when_nothing_is_new(world: World) -> None:
    world.behind = ("b",)
    assert world.night() == 0
    assert world.report["owed"] == ["b"]
    world.keys = {"vllm": "aa"}  # what the lock means now
    assert world.night() == 0
    assert world.rolled == [("b",)]
    assert (world.report["result"], world.report["owed"]) == ("kept", [])
    assert "b took up the last good release" in world.report["said"]
    world.drift = ["b: image: vllm:1: is missing"]
    assert world.night() == 1
    assert world.rolled == [("b",)]
    assert world.report["drift"] == world.drift
    assert "b: image: vllm:1: is missing" in world.page


def test_a_night_in_which_nothing_is_new_survives_a_host_that_is_down_and_says_that_nothing_is_known_of_it(
    world: World,
) -> None:
    world.keys = {"vllm": "k1"}
    world.away = {"b": "cannot connect to b: refused"}
    world.silent = {"b": UnreachableError("b", "cannot connect to b: refused")}
    assert world.night() == 0
    assert (world.report["result"], world.report["drift"], world.report["silent"]) == ("kept", [], {})
    assert world.report["away"] == world.away
    assert "all else is as it should be; b could not be reached" in world.report["said"]
    assert "Not reached, so that nothing is known of it</h2><ul><li>b: cannot connect to b: refused" in world.page
    world.drift = ["a: extra: old-0: is running"]
    assert world.night() == 1
    assert (world.report["result"], world.report["drift"]) == ("drift", world.drift)
    assert "differs from the last good release" in world.report["said"]
    assert "b could not be reached" in world.report["said"]


def test_a_night_that_reaches_no_host_or_is_refused_by_one_has_not_seen_that_all_is_well(world: World) -> None:
    world.keys = {"vllm": "k1"}
    world.away = {"a": "no route", "b": "no route"}
    assert world.night() == 1
    assert world.report["result"] == "failed"
    world.away = {}
    world.silent = {"b": RefusedError("b", "its host key has changed")}
    assert world.night() == 1
    assert (world.report["result"], world.report["silent"]) == ("drift", {"b": "its host key has changed"})


def test_what_has_changed_under_the_services_stands_in_the_report_of_every_night(world: World) -> None:
    known = {"kernel": Known("6.8.0-60", 0.0, "6.8.0-62", 3600.0), "amdgpu driver": Known("6.12.12", 3600.0)}
    for name in OLD:
        write(Path(".fleet"), name, Seen(name, known))
    assert world.night() == 0
    what = "6.8.0-60 → 6.8.0-62, first seen 1970-01-01 01:00 UTC, as before until 1970-01-01 00:00 UTC"
    assert world.report["changed"] == {name: [{"subject": "kernel", "what": what}] for name in OLD}
    assert f"<td>a, b</td><td>kernel</td><td>{what}</td>" in world.page
