"""What lies in a staging directory, where a transfer goes on, and the limit that all hosts share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.delivery.staging import BLOCK, StagedImage, parse, right_prefix
from fleet.delivery.throttle import Throttle, least, rate_of

A, B, C = "a" * 64, "b" * 64, "c" * 64
SAID = f"""\
Welcome to node 7!
fleet-staging place /data/fleet with space
fleet-staging free 1000
fleet-staging now 5000
fleet-staging blob 10 {A}
fleet-staging blob 4 {B}.part
fleet-staging blob 4 notes.txt
fleet-staging image {C} 4400 vllm-rocm:r1
fleet-staging need {C} {A} 10
fleet-staging need {C} {B} 7
"""


def test_reads_what_lies_there_and_passes_over_a_banner() -> None:
    found = parse(SAID.splitlines())
    assert (found.directory, found.free) == ("/data/fleet with space", 1000 * 1024)
    assert (found.whole, found.parts) == ({f"sha256:{A}": 10}, {f"sha256:{B}": 4})
    assert found.images == (StagedImage(f"sha256:{C}", "vllm-rocm:r1", 600, {f"sha256:{A}": 10, f"sha256:{B}": 7}),)
    assert found.held(found.images[0]) == 14


def test_nothing_said_is_nowhere_to_stage() -> None:
    assert parse(()).directory == ""


def test_a_blob_of_another_size_counts_as_nothing() -> None:
    found = parse(SAID.splitlines())
    assert found.there(f"sha256:{A}", 11) == 0
    assert found.there(f"sha256:{B}", 3) == 0
    assert found.there(f"sha256:{B}", 4) == 4  # complete, but not checked yet


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, BLOCK - 1))
def test_the_right_prefix_is_found_to_a_block(good: int, have: int, odd: int) -> None:
    asked = []

    def same(count: int) -> bool:
        asked.append(count)
        return count <= good * BLOCK

    assert right_prefix(have * BLOCK + odd, same) == min(good, have) * BLOCK
    assert len(asked) <= 10


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_limit_holds_for_all_who_share_it() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock.read, sleep=clock.sleep)
    for _ in range(100):
        throttle.take(100)
    assert clock.now - 100 == pytest.approx(10, abs=0.5)


def test_a_pause_is_not_saved_up_for() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock.read, sleep=clock.sleep)
    clock.now += 3600
    start = clock.now
    throttle.take(5000)
    assert clock.now - start == pytest.approx(5, abs=0.5)


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    Throttle(0, clock=clock.read, sleep=clock.sleep).take(1 << 40)
    assert clock.now == 100.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [("", 0), ("50MB/s", 50e6), ("400Mbit/s", 50e6), ("1.5GB/s", 1.5e9), ("800bit/s", 100), ("9kB/s", 9e3)],
)
def test_rates_are_read_in_bytes_and_bits(text: str, rate: float) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["fast", "10", "MB/s", "0MB/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate_of(text)


def test_the_smallest_limit_counts() -> None:
    assert least(["", "2MB/s", "8Mbit/s"]) == 1e6
    assert least(["", ""]) == 0
