"""The accountant's arithmetic and its reading of a node's topology."""

from pathlib import Path

import pytest

from fleet.lab import accountant, gpus
from fleet.lab.accountant import IDLE_VRAM, Holder, Part

SPX = (Part(128, 1, 11, 100 * IDLE_VRAM), Part(136, 2, 12, 100 * IDLE_VRAM))


def test_an_idle_card_still_uses_some_vram() -> None:
    assert accountant.usage((), SPX, 0.9) == {1: IDLE_VRAM, 2: IDLE_VRAM}


def test_a_holder_takes_its_share_of_its_own_gpus_only() -> None:
    used = accountant.usage((Holder(7, frozenset({136})),), SPX, 0.5)
    assert used == {1: IDLE_VRAM, 2: IDLE_VRAM + 50 * IDLE_VRAM}


def test_two_holders_never_use_more_than_there_is() -> None:
    both = (Holder(7, frozenset({128})), Holder(8, frozenset({128})))
    assert accountant.usage(both, SPX, 0.9)[1] == 100 * IDLE_VRAM


def test_what_was_leaked_counts_beside_what_is_held_and_never_more_than_there_is() -> None:
    gone, here = Holder(7, frozenset({128})), Holder(8, frozenset({128}))
    assert accountant.usage((), SPX, 0.9, (gone,), 0.2) == {1: 21 * IDLE_VRAM, 2: IDLE_VRAM}
    assert accountant.usage((here,), SPX, 0.9, (gone,), 0.5)[1] == 100 * IDLE_VRAM


def test_a_leak_stays_until_it_is_mended(tmp_path: Path) -> None:
    ledger, one = accountant.Ledger(tmp_path), Holder(7, frozenset({128}))
    leaking = accountant.Settings(leak=0.9)
    ledger.settle(frozenset({one}), leaking, 0.0)
    assert not ledger.leaked
    ledger.settle(frozenset(), leaking, 1.0)
    ledger.settle(frozenset(), leaking, 1e6)
    assert ledger.leaked == {one}
    ledger.settle(frozenset(), accountant.Settings(), 1e6 + 1)
    assert not ledger.leaked


def test_partitions_add_up_on_their_card() -> None:
    parts = (Part(128, 1, 11, 10 * IDLE_VRAM), Part(129, 1, 12, 10 * IDLE_VRAM))
    used = accountant.usage((Holder(7, frozenset({128, 129})),), parts, 0.5)
    assert used == {1: 11 * IDLE_VRAM}


@pytest.mark.parametrize(
    ("mask", "expected"),
    [(None, {128, 136, 144}), ("0,2", {128, 144}), ("", set()), ("7", set()), ("1", {136})],
)
def test_hip_visible_devices_counts_in_the_order_of_minors(mask: str | None, expected: set[int]) -> None:
    assert accountant.masked((144, 128, 136), mask) == expected


@pytest.mark.parametrize(("profile", "count"), [("mi300x-8", 8), ("mi300x-8-cpx", 64), ("mi250-4", 8)])
def test_reads_the_parts_of_a_generated_topology(profile: str, count: int, tmp_path: Path) -> None:
    hardware = gpus.machine(profile, "n1")
    gpus.write(gpus.tree(profile, "n1").under("/sys/class/kfd"), tmp_path)
    parts = tuple(accountant.read_parts(tmp_path))
    assert len(parts) == count
    assert {part.minor for part in parts} == {part.minor for part in hardware.parts}
    assert {part.card for part in parts} == {gpu.unique_id for gpu in hardware.gpus}
    assert all(part.vram > 2**34 for part in parts)


def test_the_two_idle_numbers_are_one() -> None:
    used = gpus.tree("mi250-4", "n1").files["/sys/class/drm/renderD128/device/mem_info_vram_used"]
    assert int(used) == IDLE_VRAM
