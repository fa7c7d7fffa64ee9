"""To which release a service goes back: the audit replayed as a pile, one host at a time and over a fleet."""

import pytest

from fleet.journal.audit import AuditEntry
from fleet.rollout.lineage import Lineage, Standing, go_back, go_to, lineages


def entries(told: str) -> list[AuditEntry]:
    """`a b! <a c`: deploys that answered, `!` one that failed, `<` a roll-back."""
    found = []
    for moment, word in enumerate(told.split(), start=1):
        outcome = "failed" if word.endswith("!") else "done"
        verb = "rollback" if word.startswith("<") else "deploy"
        found.append(AuditEntry("run", verb, "serve", outcome, "chat", "chat-0", word.strip("<!"), at=float(moment)))
    return found


def lineage(told: str) -> Lineage:
    return lineages(entries(told)).get("chat", Lineage())


def host(told: str, running: str) -> Standing:
    return Standing(("chat",), {"chat": frozenset(running)}, {"chat": lineage(told)})


@pytest.mark.parametrize(
    ("told", "running", "back"),
    [
        ("", "", None),
        ("a", "a", None),
        ("a b", "b", "a"),
        ("a b c", "c", "b"),
        ("a a b b", "b", "a"),  # several replicas, or changed settings
        ("a b!", "a", None),  # b never answered
        ("a b! c", "c", "a"),
        ("a b <a", "a", None),  # the bad one is no place to go back to
        ("a b c <b", "b", "a"),
        ("a b c <b <a", "a", None),
        ("a b <a c", "c", "a"),
        ("a b <a b", "b", "a"),  # deployed again, and this time meant
        ("a b <a b c", "c", "b"),
        ("a b <a <b", "b", "a"),  # --to went forward
        ("a b c <a", "a", None),  # --to went two back
        ("a b a", "a", "b"),  # deployed anew, by an inventory that was changed back
        ("a b", "ab", "a"),  # one replica still has the old one
        ("a b <a", "ab", "a"),  # one replica could not be rolled back
        ("a b", "x", "b"),  # runs what nobody saw answering
        ("a b", "", "b"),  # nothing is there any more
    ],
)
def test_a_service_goes_back_to_what_answered_last_before(told: str, running: str, back: str | None) -> None:
    found = lineage(told).before(frozenset(running))
    assert (found.release if found else None) == back


def test_what_was_rolled_away_from_is_remembered_as_such() -> None:
    assert [one.release for one in lineage("a b c <a").left] == ["b", "c"]
    assert [one.release for one in lineage("a b c <a b").left] == ["c"]


def test_entries_are_taken_by_their_time_and_images_that_were_only_brought_do_not_count() -> None:
    brought = AuditEntry("run", "deploy", "bring", "done", release="c", at=9.0)
    found = lineages([*reversed(entries("a b")), brought])
    assert [one.release for one in found["chat"].standing] == ["a", "b"]


def test_a_host_without_an_earlier_release_is_refused_and_the_others_go() -> None:
    choice = go_back({"old": host("a b", "b"), "new": host("b", "b")})
    assert choice.aims == {"old": {"chat": "a"}}
    assert choice.refused["new"] == "chat: there is nothing to go back to: b runs, no earlier release answered here"


def test_a_host_is_refused_as_a_whole_when_one_of_its_services_has_nowhere_to_go() -> None:
    one = Standing(
        ("chat", "embed"),
        {"chat": frozenset("b"), "embed": frozenset("b")},
        {"chat": lineage("a b"), "embed": lineage("b")},
    )
    choice = go_back({"one": one})
    assert (choice.aims, list(choice.refused)) == ({}, ["one"])
    assert "embed" in choice.refused["one"]


def test_a_host_that_runs_already_what_the_others_go_back_to_stays_with_it() -> None:
    """After a roll that ended early, or a roll-back that did: the second command finishes, and goes no further."""
    choice = go_back({"rolled": host("z a b", "b"), "not begun": host("z a", "a"), "back": host("z a b <a", "a")})
    assert choice.aims == {"rolled": {"chat": "a"}}
    assert choice.stays == {
        name: {"chat": "runs a already, to which other hosts go back"} for name in ("not begun", "back")
    }
    assert choice.refused == {}


def test_when_all_are_back_the_next_one_goes_further() -> None:
    choice = go_back({name: host("z a b <a", "a") for name in ("one", "two")})
    assert choice.aims == {"one": {"chat": "z"}, "two": {"chat": "z"}}


def test_hosts_with_opposite_pasts_do_not_all_stay() -> None:
    choice = go_back({"one": host("a b", "b"), "two": host("b a", "a")})
    assert choice.aims == {"one": {"chat": "a"}, "two": {"chat": "b"}}


def test_a_named_release_is_taken_by_every_host_that_does_not_run_it() -> None:
    choice = go_to({"one": host("a b", "b"), "two": host("", "")}, "b")
    assert choice.aims == {"two": {"chat": "b"}}
    assert choice.stays == {"one": {"chat": "runs b already"}}
