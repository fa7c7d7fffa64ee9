"""What a night decides."""

import pytest

from fleet.nightly.plan import BUILD, HELD, KEPT, Pace, carried, decide, groups, paces, tag, too_slow


@pytest.mark.parametrize(
    ("old", "new", "failed", "force", "kind"),
    [
        ({"a": "1"}, {"a": "1"}, {}, False, KEPT),
        ({"a": "1"}, {"a": "2"}, {}, False, BUILD),
        ({}, {"a": "1"}, {}, False, BUILD),
        ({"a": "1"}, {"a": "2"}, {"2": "broke"}, False, HELD),
        ({"a": "1"}, {"a": "2"}, {"2": "broke"}, True, BUILD),
        ({"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"1": "long ago"}, False, BUILD),
        ({"a": "1"}, {"a": "1"}, {"1": "the fleet runs it all the same"}, False, KEPT),
    ],
)
def test_only_a_new_content_key_is_built_and_never_twice_a_broken_one(
    old: dict[str, str], new: dict[str, str], failed: dict[str, str], force: bool, kind: str
) -> None:
    assert decide(old, new, failed, force=force).kind == kind


def test_a_tag_names_the_day_the_commit_and_the_key() -> None:
    assert tag(1795478400.0, "3f9c1a2b77e0", "abc") == "20261124-3f9c1a2b7-abc"
    assert tag(1795478400.0, "", "abc") == "20261124-abc"


def test_hosts_that_run_what_they_ran_before_are_left_alone() -> None:
    before = {"a": {"chat": "old"}, "b": {"chat": "old"}, "c": {"chat": "older"}, "d": {}}
    now = {"a": {"chat": "new"}, "b": {"chat": "old"}, "c": {}, "d": {"chat": "new"}}
    assert groups(before, now) == {("chat", "old"): ("a",), ("chat", "older"): ("c",)}
    assert groups(before, before) == {}


def test_a_release_that_an_unended_night_brought_counts_as_what_ran_before_it() -> None:
    before = {"a": {"chat": "old"}, "b": {"chat": "old"}}
    now = {"a": {"chat": "new"}, "b": {"chat": "by hand"}, "c": {"chat": "new"}}
    expected = {"a": {"chat": "old"}, "b": {"chat": "by hand"}, "c": {"chat": "new"}}
    assert carried(before, now, {"new"}) == expected


def test_both_figures_of_a_slow_replica_are_told() -> None:
    found = paces({("a", "chat-0"): 100.0, ("b", "chat-0"): 100.0}, {("a", "chat-0"): 89.0, ("c", "chat-0"): 1.0})
    assert found == (Pace("a", "chat-0", 100.0, 89.0),)
    assert too_slow(found, "15%") == ""
    told = too_slow(found, "10%")
    assert "89.0 tokens/s, before 100.0" in told
    assert too_slow((Pace("a", "chat-0", 100.0, 130.0),), "0%") == ""
