"""The table of faults: complete, explained, and pure where hardware is concerned."""

import pytest

from fleet.errors import UsageError
from fleet.lab import faults, gpus
from fleet.lab.faults import FAULTS

HARDWARE = tuple(name for name, fault in FAULTS.items() if fault.hardware)


def test_every_fault_that_the_lab_promises_is_there() -> None:
    promised = {
        "kfd-missing",
        "kfd-0600",
        "amdgpu-absent",
        "driver-in-tree",
        "gpu-missing",
        "gfx-wrong",
        "gpu-busy",
        "vram-leak",
        "docker-stopped",
        "docker-disk-full",
        "hostkey-changed",
        "sshd-down",
        "link-cut",
        "rebooted",
    }
    assert promised <= set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_one_line_of_help(name: str) -> None:
    assert FAULTS[name].help
    assert "\n" not in FAULTS[name].help


@pytest.mark.parametrize("name", HARDWARE)
def test_a_hardware_fault_changes_what_the_node_shows_and_nothing_twice(name: str) -> None:
    change = FAULTS[name].hardware
    assert change is not None
    whole = gpus.machine("mi300x-8", "n1")
    broken = change(whole)
    assert gpus.render(broken) != gpus.render(whole)
    assert change(whole) == broken


@pytest.mark.parametrize("first", HARDWARE)
@pytest.mark.parametrize("second", HARDWARE)
def test_hardware_faults_can_be_combined(first: str, second: str) -> None:
    machine = gpus.machine("mi300x-8", "n1")
    for name in (first, second):
        change = FAULTS[name].hardware
        assert change is not None
        if name == "partition-changed" and machine.product and not machine.product.partitionable:
            with pytest.raises(UsageError):
                change(machine)
            return
        machine = change(machine)
    assert gpus.render(machine).files


def test_options_stand_after_a_colon() -> None:
    assert faults._parse("link-cut:after=2s") == ("link-cut", {"after": "2s"})
    assert faults._parse("kfd-0600") == ("kfd-0600", {})
