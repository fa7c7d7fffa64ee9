"""A play's hosts in named batches: new ones, canaries, series, and last those that are right already."""

from fleet.playbook import Amount, Play, Serve
from fleet.rollout.assign import Assignment
from fleet.rollout.roll import order

HOSTS = ("a", "b", "c", "d", "e")


def titles(
    play: Play, *, canaries: frozenset[str] = frozenset(), new: str = "", unchanged: str = ""
) -> list[tuple[str, str]]:
    given = Assignment(play, HOSTS, canaries)
    return [(title, "".join(batch.hosts)) for title, batch in order(given, HOSTS, new=new, unchanged=unchanged)]


def test_the_canary_goes_alone_and_the_series_follows() -> None:
    play = Play("roll", (Serve(),), canary=1, serial=(Amount(1), Amount(100, percent=True)))
    assert titles(play) == [("canary", "a"), ("batch 2", "b"), ("batch 3", "cde")]


def test_new_hosts_go_together_first_only_where_the_play_says_so() -> None:
    together = Play("roll", (Serve(),), canary=1, new_hosts_together=True)
    assert titles(together, new="de") == [("new hosts", "de"), ("canary", "a"), ("batch 3", "bc")]
    assert titles(Play("roll", (Serve(),), canary=1), new="de") == [("canary", "a"), ("batch 2", "bcde")]


def test_what_is_right_already_is_no_canary_and_comes_last() -> None:
    play = Play("roll", (Serve(),), canary=1)
    assert titles(play, unchanged="ab") == [("canary", "c"), ("batch 2", "de"), ("unchanged hosts", "ab")]


def test_a_pattern_whose_canaries_are_done_lets_the_others_go() -> None:
    play = Play("roll", (Serve(),), canary="a")
    canaries = frozenset("a")
    assert titles(play, canaries=canaries) == [("canary", "a"), ("batch 2", "bcde")]
    assert titles(play, canaries=canaries, unchanged="a") == [("batch 1", "bcde"), ("unchanged hosts", "a")]


def test_batches_are_numbered_through() -> None:
    play = Play("roll", (Serve(),), canary=1, new_hosts_together=True)
    given = Assignment(play, HOSTS)
    found = [batch.number for _title, batch in order(given, HOSTS, new="e", unchanged="d")]
    assert found == [1, 2, 3, 4]
