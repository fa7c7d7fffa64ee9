"""Only likes are compared, with the first of them; slow is said beside the median of the same cards."""

from dataclasses import replace

from fleet.serving.compare import Answered, Kin, differences, groups, slow
from fleet.serving.load import quantile

ONE = Kin("mi300x-01", "chat-0", "chat", "gfx942", "8", "r1", (("A", "1"),), ("m",), "MI300X")


def kin(host: str, **changes: str) -> Kin:
    return replace(ONE, host=host, **changes)  # type: ignore[arg-type]  # texts only


def test_equal_gfx_parallel_size_release_and_environment_make_a_group() -> None:
    others = [
        kin("b"),
        kin("c", gfx="gfx90a"),
        kin("d", tp="4"),
        kin("e", release="r2"),
        replace(ONE, host="f", env=()),
    ]
    found = groups([ONE, *others, replace(ONE, host="g", arguments=("m", "--dtype", "half"))])
    assert [[one.host for one in group] for group in found] == [["mi300x-01", "b"], ["c"], ["d"], ["e"], ["f"], ["g"]]


def test_replicas_of_unknown_gfx_are_compared_with_nobody() -> None:
    assert len(groups([kin("a", gfx=""), kin("b", gfx="")])) == 2


def test_a_different_answer_names_both_hosts_and_the_prompt() -> None:
    told = differences(
        [
            Answered(ONE, {"P": "yes", "Q": "same"}),
            Answered(kin("mi300x-02"), {"P": "yes", "Q": "same"}),
            Answered(kin("mi300x-07"), {"P": "no", "Q": "same"}),
            Answered(kin("mi250-01", gfx="gfx90a"), {"P": "no"}),
        ]
    )
    assert [(one.kin.host, one.said) for one in told] == [
        ("mi300x-07", "chat-0 answers prompt 'P' differently from mi300x-01: 'no', there 'yes'")
    ]


def test_what_was_not_asked_of_both_is_not_compared() -> None:
    assert differences([Answered(ONE, {"P": "yes"}), Answered(kin("b"), {"Q": "no"})]) == ()


def test_the_slow_are_named_beside_the_median_of_the_same_cards_and_service() -> None:
    fleet = [Answered(kin(f"h{number}"), {}, 100.0) for number in range(4)]
    fleet += [
        Answered(kin("lame"), {}, 60.0),
        Answered(kin("old", gpu="MI250"), {}, 20.0),
        Answered(kin("unasked"), {}),
    ]
    shares = {("lame", "chat-0"): 70}
    told = slow(fleet, shares)
    assert [one.said for one in told] == [
        "chat-0 is slow: 60.0 tokens/s, 60% of the median 100.0 of 5 replicas of MI300X with chat (limit 70%)"
    ]
    assert slow(fleet, {("lame", "chat-0"): 50}) == ()


def test_one_replica_alone_is_never_slow() -> None:
    assert slow([Answered(ONE, {}, 0.1)], {}) == ()


def test_quantiles_lie_between_neighbours() -> None:
    assert [quantile([4, 1, 3, 2], share) for share in (0, 0.5, 1)] == [1, 2.5, 4]
    assert quantile([], 0.5) == 0
