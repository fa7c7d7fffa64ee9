"""A play's hosts in named batches: canaries, new ones, series, and last those that are right already."""

from fleet.playbook import Amount, Play, Serve
from fleet.rollout.assign import Assignment
from fleet.rollout.order import Known, order

HOSTS = ("a", "b", "c", "d", "e")


def titles(
    play: Play,
    *,
    canaries: frozenset[str] = frozenset(),
    fit: str = "abcde",
    new: str = "",
    unchanged: str = "",
    serves: bool = True,
    proved: str = "",
) -> list[tuple[str, str]]:
    given = Assignment(play, HOSTS, canaries)
    found = order(given, tuple(fit), Known(new, unchanged, serves, proved))
    return [(title, "".join(batch.hosts)) for title, batch in found]


def test_the_canary_goes_alone_and_the_series_follows() -> None:
    play = Play("roll", (Serve(),), canary=1, serial=(Amount(1), Amount(100, percent=True)))
    assert titles(play) == [("canary", "a"), ("batch 2", "b"), ("batch 3", "cde")]


def test_where_something_serves_new_hosts_go_together_only_behind_the_canary() -> None:
    together = Play("roll", (Serve(),), canary=1, new_hosts_together=True)
    assert titles(together, new="ae") == [("canary", "b"), ("new hosts", "ae"), ("batch 3", "cd")]
    assert titles(together, new="cde", unchanged="ab") == [
        ("canary", "c"),
        ("new hosts", "de"),
        ("unchanged hosts", "ab"),
    ]
    assert titles(Play("roll", (Serve(),), canary=1), new="de") == [("canary", "a"), ("batch 2", "bcde")]


def test_a_fleet_in_which_nothing_serves_starts_all_together() -> None:
    together = Play("roll", (Serve(),), canary=1, new_hosts_together=True)
    assert titles(together, new="abcde", serves=False) == [("new hosts", "abcde")]
    assert titles(Play("roll", (Serve(),), canary=1), new="abcde", serves=False)[0] == ("canary", "a")


def test_what_is_right_already_is_no_canary_and_comes_last() -> None:
    play = Play("roll", (Serve(),), canary=1)
    assert titles(play, unchanged="ab") == [("canary", "c"), ("batch 2", "de"), ("unchanged hosts", "ab")]


def test_a_pattern_whose_canaries_are_done_lets_the_others_go() -> None:
    play = Play("roll", (Serve(),), canary="a")
    canaries = frozenset("a")
    assert titles(play, canaries=canaries) == [("canary", "a"), ("batch 2", "bcde")]
    assert titles(play, canaries=canaries, unchanged="a") == [("batch 1", "bcde"), ("unchanged hosts", "a")]
    assert titles(play, canaries=canaries, fit="bcde", proved="a") == [("batch 1", "bcde")]


def test_for_a_pattern_of_hosts_that_take_no_part_another_host_stands_in() -> None:
    play = Play("roll", (Serve(),), canary="a")
    assert titles(play, canaries=frozenset("a"), fit="bcd") == [("canary", "b"), ("batch 2", "cd")]


def test_batches_are_numbered_through() -> None:
    play = Play("roll", (Serve(),), canary=1, new_hosts_together=True)
    given = Assignment(play, HOSTS)
    found = [batch.number for _title, batch in order(given, HOSTS, Known("e", "d"), start=3)]
    assert found == [3, 4, 5, 6]
