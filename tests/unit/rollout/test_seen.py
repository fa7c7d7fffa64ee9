"""What a host ran on when it was last looked at, and what of it has changed since."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.facts import Facts
from fleet.facts.hardware import Driver, Gpu, Topology
from fleet.facts.model import System
from fleet.rollout.drift import Drift
from fleet.rollout.seen import Known, Seen, accepted, changed, looked, platform, read, write

GPU = Gpu(0, 1, model="MI300X", compute_partition="SPX", memory_partition="NPS1", firmware={"smc": "0x1", "sos": "0x7"})
BEFORE = Facts(
    system=System(kernel="6.8.0-60"), driver=Driver("live", "6.12.12"), topology=Topology(kfd=True, gpus=(GPU,))
)
AFTER = replace(BEFORE, system=System(kernel="6.8.0-62"))
NIGHT, DAY = 1795000000.0, 1795040000.0
FIRST = looked(Seen("10.0.0.1"), BEFORE, NIGHT)


def test_the_first_look_at_a_host_knows_of_no_change() -> None:
    assert changed(FIRST) == ()
    assert platform(BEFORE) == {
        "kernel": "6.8.0-60",
        "amdgpu driver": "6.12.12",
        "compute partition": "SPX",
        "memory partition": "NPS1",
        "MI300X firmware: smc": "0x1",
        "MI300X firmware: sos": "0x7",
    }


def test_another_kernel_is_told_with_what_was_there_and_since_when() -> None:
    assert changed(looked(FIRST, AFTER, DAY)) == (
        Drift(
            "changed",
            "kernel",
            "6.8.0-60 → 6.8.0-62, first seen 2026-11-18 22:13 UTC, as before until 2026-11-18 11:06 UTC",
        ),
    )


def test_looking_again_neither_takes_a_change_for_right_nor_moves_its_time() -> None:
    once = looked(FIRST, AFTER, DAY)
    assert changed(looked(once, AFTER, DAY + 86400)) == changed(once)


def test_a_change_that_was_accepted_is_none_any_more() -> None:
    assert changed(looked(accepted(looked(FIRST, AFTER, DAY), AFTER, DAY), AFTER, DAY + 1)) == ()


def test_what_is_as_it_was_again_is_no_change() -> None:
    assert changed(looked(looked(FIRST, AFTER, DAY), BEFORE, DAY + 1)) == ()


def test_versions_of_firmware_are_one_difference_and_what_appears_or_is_not_told_is_none() -> None:
    other = replace(GPU, firmware={"smc": "0x2", "sos": "0x8", "vcn": "0x9"}, memory_partition=None)
    (found,) = changed(looked(FIRST, replace(BEFORE, topology=Topology(kfd=True, gpus=(other,))), DAY))
    assert found.subject == "MI300X firmware"
    assert found.what.startswith("smc 0x1 → 0x2, first seen")
    assert "; sos 0x7 → 0x8, first seen" in found.what
    assert "vcn" not in found.what


@pytest.mark.parametrize("host", ["mi300x-01.dc1", "../../etc/passwd", "a/b", "..", "wörter", "n" * 253])
def test_a_memory_is_read_back_whatever_the_host_is_called_and_stays_in_its_place(tmp_path: Path, host: str) -> None:
    seen = looked(FIRST, AFTER, DAY)
    write(tmp_path, host, seen)
    assert read(tmp_path, host, "10.0.0.1") == seen
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.parent == tmp_path / "seen"
    assert json.loads(file.read_text("utf-8"))["schema"] == 1


def test_a_memory_of_another_machine_of_a_newer_fleet_or_with_damage_is_none(tmp_path: Path) -> None:
    write(tmp_path, "n1", Seen("10.0.0.1", {"kernel": Known("6.8.0", NIGHT)}))
    assert read(tmp_path, "n1", "10.0.0.2").known == {}
    file = tmp_path / "seen/n1.json"
    for text in (file.read_text("utf-8").replace('"schema": 1', '"schema": 2'), "{", "[]", '{"schema": 1, "known": 3}'):
        file.write_text(text, "utf-8")
        assert read(tmp_path, "n1", "10.0.0.1") == Seen("10.0.0.1")


def test_where_no_memory_can_be_written_nothing_is_remembered_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("a file in its place", "utf-8")
    write(tmp_path, "n1", FIRST)
    assert read(tmp_path, "n1", "10.0.0.1") == Seen("10.0.0.1")
