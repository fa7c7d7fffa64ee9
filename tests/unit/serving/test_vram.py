"""Waiting for the GPUs' memory after a stop, and what happens where it does not come back."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HostError
from fleet.facts import Facts, Gpu
from fleet.facts.model import Process, Topology
from fleet.serving.command import memory_share
from fleet.serving.context import Context
from fleet.serving.execute import apply, carry_out
from fleet.serving.steps import Change, Create, FreeVram, Remove, SaveLogs, ServingPlan, SetRestart, Start, Stop
from fleet.serving.vram import DirtyError
from tests.unit.serving.test_execute import GIB, SPEC, FakeApi, FakeShell, Guard, context

PID = Process(77, "python3 train.py", {1: 90 * GIB})


def host(used: int, *holders: Process) -> Callable[[], Facts]:
    gpu = Gpu(0, 2, gpu_id=1, vram_bytes=100 * GIB, vram_used_bytes=used, render_minor=128, bdf="0000:05:00.0")
    return lambda: Facts(topology=Topology(kfd=True, gpus=(gpu,), processes=holders))


def waiting(tmp_path: Path, shell: FakeShell, **options: Any) -> Context:
    """Time passes only while the step sleeps."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return context(options.pop("api", FakeApi()), tmp_path, shell, clock=lambda: now[0], sleep=sleep, **options)


@pytest.mark.parametrize(("vram", "asked"), [([GIB], 1), ([90 * GIB, 40 * GIB, GIB], 3)])
def test_vram_is_waited_for_while_it_falls(vram: list[int], asked: int, tmp_path: Path) -> None:
    shell = FakeShell(vram=vram)
    made = waiting(tmp_path, shell)
    apply(FreeVram(frozenset({128}), "w", 0.9), made)
    assert shell.asked == asked
    assert not made.findings


def test_a_fall_however_late_is_waited_on(tmp_path: Path) -> None:
    shell = FakeShell(vram=[*[90 * GIB] * 25, *[80 * GIB] * 25, *[70 * GIB] * 25, GIB])
    apply(FreeVram(frozenset({128}), "w", 0.9), waiting(tmp_path, shell))
    assert shell.asked == 76


def test_other_replicas_vram_is_not_waited_for(tmp_path: Path) -> None:
    shell = FakeShell(vram=[90 * GIB])
    apply(FreeVram(frozenset({136}), "w", 0.9), waiting(tmp_path, shell))
    assert shell.asked == 1


def test_what_does_not_fit_is_not_started_and_the_finding_names_gpu_bytes_and_commands(tmp_path: Path) -> None:
    made = waiting(tmp_path, FakeShell(vram=[90 * GIB]), facts=host(90 * GIB))
    with pytest.raises(DirtyError, match=r"wants 0\.9 of each to be free") as caught:
        apply(FreeVram(frozenset({128}), "w", 0.9), made)
    (finding,) = made.findings
    assert finding.severity == "fail"
    assert "renderD128 (0000:05:00.0): 90.0 of 100.0 GiB in use, at most 3.0 when idle" in finding.evidence
    assert "no process that KFD knows" in finding.evidence
    assert "sudo amd-smi reset --gpureset -g 0000:05:00.0" in caught.value.hint
    assert caught.value.tail == (finding.evidence,)


def test_dirty_gpus_with_room_enough_are_a_warning_and_the_roll_goes_on(tmp_path: Path) -> None:
    made = waiting(tmp_path, FakeShell(vram=[20 * GIB]), facts=host(20 * GIB))
    apply(FreeVram(frozenset({128}), "w", 0.7), made)
    assert [one.severity for one in made.findings] == ["warn"]


def test_whoever_holds_the_memory_is_to_be_ended_and_nothing_to_be_reset(tmp_path: Path) -> None:
    made = waiting(tmp_path, FakeShell(vram=[90 * GIB]), facts=host(90 * GIB, PID))
    with pytest.raises(DirtyError) as caught:
        apply(FreeVram(frozenset({128}), "w", 0.9), made)
    assert "kill -TERM 77" in caught.value.hint
    assert "reset" not in caught.value.hint
    assert "pid 77 (python3 train.py)" in caught.value.finding.evidence


CHANGE = Change(
    "chat-0",
    "changed",
    steps=(
        Create(SPEC, "chat-0-new", (), "w"),
        SetRestart("chat-0", "no", "w"),
        Stop("chat-0", 60, "w"),
        FreeVram(frozenset({128}), "w", 0.9),
        Start("chat-0-new", "w"),
    ),
    undo=(
        SaveLogs("chat-0-new", "w"),
        Stop("chat-0-new", 60, "w"),
        FreeVram(frozenset({128}), "w", 0.5),
        SetRestart("chat-0", "always", "w"),
        Start("chat-0", "w"),
        Remove("chat-0-new", "w"),
    ),
)


def test_the_old_one_is_put_back_where_it_fits(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    shell = FakeShell(vram=[30 * GIB])
    made = waiting(tmp_path, shell, api=api, facts=host(30 * GIB))
    with pytest.raises(HostError, match=r"GPUs are dirty: .*chat-0 was put back and serves again"):
        carry_out(ServingPlan((CHANGE,)), made)
    assert api.states == {"chat-0": "running"}
    assert shell.asked == 32  # the undo does not wait once more


def test_where_the_old_one_does_not_fit_either_it_is_kept_held_and_the_host_is_down(tmp_path: Path) -> None:
    api, guard = FakeApi(chat_0="running"), Guard()
    made = waiting(tmp_path, FakeShell(vram=[90 * GIB]), api=api, facts=host(90 * GIB), guard=guard)
    with pytest.raises(HostError, match=r"chat-0 does not fit either and is kept stopped .* it is DOWN") as caught:
        carry_out(ServingPlan((CHANGE,)), made)
    assert api.states == {"chat-0": "exited"}
    assert "restart=always chat-0" not in api.calls
    assert guard.said == ["arm", "disarm"]  # the host must not start it by itself
    assert "whole log" not in caught.value.hint


def test_memory_that_is_still_coming_back_when_ctrl_c_comes_is_waited_for_before_the_old_one_is_put_back(
    tmp_path: Path,
) -> None:
    """Not waited for in vain: the step was only about to begin."""
    cancelled = threading.Event()
    api = FakeApi(chat_0="running")
    shell = FakeShell(vram=[90 * GIB, 40 * GIB, GIB])
    made = waiting(tmp_path, shell, api=api, facts=host(90 * GIB), cancelled=cancelled)

    def say(line: str) -> None:
        if line == Stop("chat-0", 60, "w").what:
            cancelled.set()

    with pytest.raises(HostError, match=r"interrupted before: .*chat-0 was put back and serves again"):
        carry_out(ServingPlan((CHANGE,)), replace(made, say=say))
    assert api.states == {"chat-0": "running"}
    assert shell.asked == 3


def test_a_change_that_failed_before_anything_was_stopped_does_not_wait_for_memory_in_use(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    api.refuse["restart=no"] = "busy"
    shell = FakeShell(vram=[90 * GIB])
    with pytest.raises(HostError, match="chat-0 was put back and serves again"):
        carry_out(ServingPlan((CHANGE,)), waiting(tmp_path, shell, api=api))
    assert shell.asked == 0
    assert api.states == {"chat-0": "running"}


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ((), 0.9),
        (("--gpu-memory-utilization", "0.7"), 0.7),
        (("serve", "--gpu_memory_utilization=0.5", "--port", "1"), 0.5),
        (("--gpu-memory-utilization", "much"), 0.9),
    ],
)
def test_the_share_that_vllm_wants_is_read_from_its_command_line(words: tuple[str, ...], share: float) -> None:
    assert memory_share(words) == share
