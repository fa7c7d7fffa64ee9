"""What a night decides."""

import pytest

from fleet.nightly.plan import (
    BUILD,
    HELD,
    KEPT,
    Pace,
    carried,
    decide,
    groups,
    paces,
    slow_ones,
    strangers,
    tag,
    to_blame,
    too_slow,
)


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


def test_only_what_a_night_brought_goes_back() -> None:
    before = {"a": {"chat": "old"}, "b": {"chat": "old"}, "c": {"chat": "older"}, "d": {}, "e": {"chat": "old"}}
    now = {"a": {"chat": "new"}, "b": {"chat": "old"}, "c": {}, "d": {"chat": "new"}, "e": {"chat": "by hand"}}
    assert groups(before, now, {"new"}) == {("chat", "old"): ("a",), ("chat", "older"): ("c",)}
    assert strangers(before, now, {"new"}) == ("chat of e runs by hand, which somebody else brought: left alone",)
    assert groups(before, before, {"new"}) == {}


def test_an_image_that_is_known_to_be_broken_holds_no_other_back() -> None:
    old, failed = {"a": "1", "b": "1"}, {"2": "night n: it broke"}
    found = decide(old, {"a": "1", "b": "3"}, failed, force=False, spared={"a": "2"})
    assert found.kind == BUILD
    assert "b has the new content key 3; a stays as it was" in found.why
    assert "night n: it broke" in found.why
    assert decide(old, old, failed, force=False, spared={"a": "2"}).kind == HELD
    # one lock cannot mean two commits by one ref, so these go together
    assert decide(old, {"a": "2", "b": "3"}, failed, force=False).kind == HELD


def test_only_what_failed_is_blamed() -> None:
    asked = {"x": {"chat": "k1", "embed": "k2", "embed-large": "k3"}, "y": {"chat": "k1"}}
    names = {"k1": "vllm:aaa", "k2": "vllm:bbb", "k3": "vllm:ccc"}
    fresh = {"k1", "k2"}

    def blamed(host: str, text: str) -> tuple[str, ...]:
        return to_blame({host: text}, asked, names, fresh)

    assert blamed("x", "chat-0 gave no answer") == ("k1",)
    assert blamed("x", "embed-large-0 stopped") == ()  # what it runs is not new
    assert blamed("x", "cannot pull image vllm:bbb") == ("k2",)
    assert blamed("x", "the engine went away") == ("k1", "k2")
    assert blamed("y", "the engine went away") == ("k1",)


def test_a_release_that_an_unended_night_brought_counts_as_what_ran_before_it() -> None:
    before = {"a": {"chat": "old"}, "b": {"chat": "old"}}
    now = {"a": {"chat": "new"}, "b": {"chat": "by hand"}, "c": {"chat": "new"}}
    expected = {"a": {"chat": "old"}, "b": {"chat": "by hand"}, "c": {"chat": "new"}}
    assert carried(before, now, {"new"}) == expected


def test_both_figures_of_a_slow_replica_are_told() -> None:
    found = paces({("a", "chat-0"): 100.0, ("b", "chat-0"): 100.0}, {("a", "chat-0"): 89.0, ("c", "chat-0"): 1.0})
    assert found == (Pace("a", "chat-0", 100.0, 89.0),)
    assert slow_ones(found, "15%") == ()
    told = too_slow(slow_ones(found, "10%"), "10%")
    assert "89.0 tokens/s, before 100.0" in told
    assert slow_ones((Pace("a", "chat-0", 100.0, 130.0),), "0%") == ()
