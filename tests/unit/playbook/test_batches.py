"""Who goes together: canaries first and alone, then Ansible's serial."""

import pytest

from fleet.errors import UsageError
from fleet.playbook import Amount, Batch, Play, Verify, batches

HOSTS = tuple(f"n{number:02}" for number in range(1, 11))


def play(*serial: int | str, canary: int | str = 0) -> Play:
    amounts = tuple(
        Amount(int(one.rstrip("%")), percent=True) if isinstance(one, str) else Amount(one) for one in serial
    )
    return Play("roll", (Verify(),), serial=amounts, canary=canary)


def sizes(found: tuple[Batch, ...]) -> list[int]:
    return [len(batch.hosts) for batch in found]


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ((), [10]),
        ((0,), [10]),
        ((3,), [3, 3, 3, 1]),
        (("30%",), [3, 3, 3, 1]),
        ((1, "25%", "100%"), [1, 2, 7]),
        ((1, 2), [1, 2, 2, 2, 2, 1]),
        (("5%",), [1] * 10),
        (("200%",), [10]),
        ((4, 0), [4, 6]),
    ],
)
def test_sizes_follow_the_series_and_the_last_repeats(serial: tuple[int | str, ...], expected: list[int]) -> None:
    assert sizes(batches(HOSTS, play(*serial))) == expected


def test_canary_goes_first_and_alone_and_percentages_still_count_every_host() -> None:
    found = batches(HOSTS, play("50%", canary=1))
    assert found[0] == Batch(1, ("n01",), canary=True)
    assert sizes(found) == [1, 5, 4]
    assert not any(batch.canary for batch in found[1:])


def test_canaries_of_a_pattern_keep_the_hosts_order() -> None:
    found = batches(HOSTS, play(canary="canary"), canaries={"n07", "n03", "elsewhere"})
    assert found[0].hosts == ("n03", "n07")
    assert sizes(found) == [2, 8]


def test_a_pattern_that_leaves_no_canary_is_refused() -> None:
    with pytest.raises(UsageError, match="has no canary"):
        batches(HOSTS, play(canary="canary"), canaries={"elsewhere"})


def test_more_canaries_than_hosts_are_one_batch() -> None:
    assert batches(("a", "b"), play(1, canary=5)) == (Batch(1, ("a", "b"), canary=True),)


def test_no_host_is_no_batch_and_each_host_goes_once() -> None:
    assert batches((), play(1, canary="canary")) == ()
    assert [batch.hosts for batch in batches(("a", "b", "a"), play(1))] == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("amount", "total", "up", "down"),
    [(Amount(3), 10, 3, 3), (Amount(75, percent=True), 10, 8, 7), (Amount(29, percent=True), 100, 29, 29)],
)
def test_what_must_remain_rounds_up_and_what_may_fail_rounds_down(
    amount: Amount, total: int, up: int, down: int
) -> None:
    assert (amount.of(total, "up"), amount.of(total, "down")) == (up, down)


def test_amounts_print_as_they_are_written() -> None:
    assert [str(Amount(3)), str(Amount(25, percent=True))] == ["3", "25%"]
