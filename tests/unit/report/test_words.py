"""Short forms: folded host names, durations, the recap."""

import pytest

from fleet.report.hosts import fold
from fleet.report.recap import HostRecap, duration, lines


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["mi300x-01", "mi300x-02", "mi300x-03"], "mi300x-[01:03]"),
        (["mi300x-01.dc1", "mi300x-03.dc1"], "mi300x-01.dc1, mi300x-03.dc1"),
        (["mi300x-01.dc1", "mi300x-02.dc1"], "mi300x-[01:02].dc1"),
        (["rack2-gpu3.a.b9", "10.0.0.1", "10.0.0.2"], "rack2-gpu3.a.b9, 10.0.0.[1:2]"),
        (["gpu1", "gpu2", "web"], "gpu[1:2], web"),
        (["n9", "n10"], "n9, n10"),
        ([], ""),
    ],
)
def test_folds_runs_of_numbers(names: list[str], folded: str) -> None:
    assert fold(names) == folded


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.84, "0.8 s"), (75, "75 s"), (725, "12 min 5 s"), (3725, "1 h 2 min")]
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_recap_aligns_hosts_and_ends_with_the_time() -> None:
    text = lines([HostRecap("a", ok=2, changed=1), HostRecap("long", unreachable=1)], 3)
    assert text[0].startswith("a    : ok=2")
    assert "unreachable=1" in text[1]
    assert text[-1] == "2 hosts in 3.0 s"
