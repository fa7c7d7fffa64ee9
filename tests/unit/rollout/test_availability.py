"""Who may be taken out of service now, with threads that wait for their turn."""

import threading

import pytest

from fleet.errors import HostError
from fleet.playbook import Amount
from fleet.rollout.availability import Budget, Floor, NotBegunError, Standing
from fleet.rollout.standings import floors

CHAT = {"chat": 1}


def fleet(count: int, broken: int = 0) -> dict[str, Standing]:
    return {f"n{number}": Standing(CHAT, {} if number < broken else CHAT) for number in range(count)}


def waits(budget: Budget, host: str) -> threading.Thread:
    thread = threading.Thread(target=budget.begin, args=(host, CHAT), daemon=True)
    thread.start()
    thread.join(0.05)
    return thread


@pytest.mark.parametrize(
    ("amount", "total", "least"),
    [
        (Amount(75, percent=True), 12, 9),
        (Amount(75, percent=True), 2, 2),
        (Amount(3), 4, 3),
        (Amount(50, percent=True), 3, 2),
    ],
)
def test_what_must_remain_rounds_up(amount: Amount, total: int, least: int) -> None:
    assert floors(amount, fleet(total))["chat"].least == least


def test_broken_hosts_count_as_gone_in_the_total_and_in_what_serves() -> None:
    budget = Budget(fleet(12, broken=2), floors(Amount(75, percent=True), fleet(12, broken=2)))
    budget.begin("n2", CHAT)
    assert waits(budget, "n3").is_alive()


def test_without_a_floor_a_service_goes_host_by_host_and_services_do_not_wait_for_each_other() -> None:
    standings = {**fleet(2), "e0": Standing({"embed": 1}, {"embed": 1})}
    budget = Budget(standings, {})
    budget.begin("n0", CHAT)
    budget.begin("e0", {"embed": 1})
    second = waits(budget, "n1")
    assert second.is_alive()
    budget.finish("n0", CHAT)
    second.join(1)
    assert not second.is_alive()


def test_what_does_not_serve_may_go_at_any_time() -> None:
    budget = Budget(fleet(2, broken=1), floors(Amount(1), fleet(2, broken=1)))
    budget.begin("n0", CHAT)


def test_a_floor_that_can_never_be_kept_is_said_at_once() -> None:
    budget = Budget(fleet(2), floors(Amount(75, percent=True), fleet(2)))
    with pytest.raises(HostError, match=r"2 of 2 replicas of chat serve.*min_available 75% \(2\)"):
        budget.begin("n0", CHAT)


def test_who_may_not_go_yet_waits_for_a_broken_host_that_is_being_replaced() -> None:
    standings = fleet(2, broken=1)
    budget = Budget(standings, floors(Amount(1), standings))
    budget.expect(["n0"])
    second = waits(budget, "n1")
    budget.begin("n0", {})
    assert second.is_alive()
    budget.finish("n0", CHAT)
    second.join(1)
    assert not second.is_alive()


def test_who_waits_is_told_when_a_host_came_back_broken() -> None:
    budget = Budget(fleet(4), floors(Amount(3), fleet(4)))
    budget.begin("n0", CHAT)
    told: list[str] = []

    def second() -> None:
        try:
            budget.begin("n1", CHAT)
        except HostError as error:
            told.append(error.message)

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    budget.finish("n0", {})
    thread.join(1)
    assert "3 of 4 replicas of chat serve" in told[0]


def test_after_the_end_nobody_begins_and_those_who_wait_are_told() -> None:
    budget = Budget(fleet(3), {})
    budget.begin("n0", CHAT)
    told: list[str] = []

    def second() -> None:
        try:
            budget.begin("n1", CHAT)
        except NotBegunError as error:
            told.append(error.message)

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    budget.end("the canary n0 failed")
    thread.join(1)
    assert told == ["not begun: the canary n0 failed"]
    with pytest.raises(NotBegunError):
        budget.begin("n2", {})


def test_a_fresh_look_counts() -> None:
    budget = Budget(fleet(3), {"chat": Floor("chat", 2, 3, "2")})
    budget.note("n2", {})
    with pytest.raises(HostError, match="2 of 3"):
        budget.begin("n0", CHAT)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nobody_is_taken_by_old_figures_also_not_from_the_batch_itself() -> None:
    clock, looks = Clock(), []
    standings = fleet(12)

    def look() -> dict[str, dict[str, int]]:
        looks.append(clock.now)
        return {host: {} if host in ("n10", "n11") else CHAT for host in standings}

    budget = Budget(standings, {"chat": Floor("chat", 9, 12, "75%")}, look, clock)
    clock.now = 60  # the canary took a minute, and two of the next batch died meanwhile
    assert budget.begin("n3", CHAT) == CHAT
    assert looks == [60]
    assert waits(budget, "n4").is_alive()
    assert budget.begin("n10", CHAT) == {}  # it serves nothing, so it costs nothing


def test_nobody_is_refused_by_old_figures() -> None:
    clock = Clock()
    budget = Budget(
        fleet(4, broken=1), {"chat": Floor("chat", 3, 4, "75%")}, lambda: dict.fromkeys(fleet(4), CHAT), clock
    )
    clock.now = 60
    assert budget.begin("n1", CHAT) == CHAT


def test_what_is_being_replaced_is_not_counted_by_a_look_that_began_before() -> None:
    clock = Clock()
    standings = fleet(3)
    budget = Budget(standings, {"chat": Floor("chat", 1, 3, "1")}, lambda: dict.fromkeys(standings, CHAT), clock)
    budget.begin("n0", CHAT)
    clock.now = 60
    budget.begin("n1", CHAT)
    assert budget.serving() == {"chat": 1}


def test_a_long_look_is_believed_longer_so_that_looking_stays_a_small_part() -> None:
    clock, looks = Clock(), []

    def look() -> dict[str, dict[str, int]]:
        looks.append(clock.now)
        clock.now += 4
        return dict.fromkeys(fleet(9), CHAT)

    budget = Budget(fleet(9), {"chat": Floor("chat", 1, 9, "1")}, look, clock)
    for host, at in (("n0", 60.0), ("n1", 90.0), ("n2", 110.0)):
        clock.now = at
        budget.begin(host, CHAT)
    assert looks == [60, 110]
