"""GPU memory that does not come back."""

import signal
import subprocess
from typing import Any

from tests.lab.faults.world import ONE, TWO, World, fault
from tests.lab.rolls import within

QUICK_VRAM: dict[str, Any] = {"vram_wait": 2}


@fault(
    "GPUs held by somebody else",
    "a foreign process takes a GPU as the old container stops",
    "nothing is started there, the host is said to be down, first, and who holds the GPU; the process stays untouched; "
    "once it is gone a deploy mends it",
)
def _(world: World) -> None:
    def seize(process: subprocess.Popen[str]) -> None:
        """While the controller is held: it must not be there first."""
        process.send_signal(signal.SIGSTOP)
        try:
            world.fleet.lab.break_("gpu-busy", ONE)
            assert within(
                30, lambda: bool(world.sh(ONE, "ls -d /sys/class/kfd/kfd/proc/$(cat /run/finetune.pid) || true"))
            )
        finally:
            process.send_signal(signal.SIGCONT)

    try:
        told = world.roll(world.wants(**QUICK_VRAM), (ONE,), at="stop chat-0 ", then=seize)
        told.fails("DOWN n1", "GPUs are dirty", "finetune", "kill -TERM")
        assert world.sh(ONE, "kill -0 $(cat /run/finetune.pid) && echo lives") == "lives"
    finally:
        world.fleet.lab.mend(ONE)


@fault(
    "VRAM not freed",
    "the memory of the old container stays taken after its end, as after SIGKILL in HIP work",
    "nothing is started there, the host is said to be down, first; which GPUs, how much, that nobody holds it and what to "
    "type are said, the whole hive named; the other host goes on; the next deploy leaves the host alone in words, and "
    "after the reset mends it",
    ONE,
    TWO,
)
def _(world: World) -> None:
    before = world.serving(ONE, TWO)
    world.fleet.lab.break_("vram-leak", ONE)
    try:
        code, document = world.wants(**QUICK_VRAM).ask("deploy", "--limit", f"{ONE},{TWO}")
        (found,) = document["hosts"][ONE]["findings"]
        assert (code, set(document["failed"]), found["id"], found["severity"]) == (1, {ONE}, "vram_free", "fail")
        assert "renderD128 (0000:" in found["evidence"]
        assert "unique id" in found["evidence"]
        assert "no process that KFD knows" in found["evidence"]
        assert "sudo amd-smi reset --gpureset -g 0000:" in found["fix"]
        assert "every GPU of the XGMI hive" in found["fix"]
        assert "renderD184" in found["fix"]
        assert world.serving(TWO)[TWO] != before[TWO]
        assert world.fleet.containers(ONE) == {"chat-0"}
        assert not world.fleet.answers(ONE)
        told = world.roll(world.wants(**QUICK_VRAM), (ONE,))
        told.fails("vram_free", "is not fit, and was left alone", "amd-smi reset")
        assert world.fleet.containers(ONE) == {"chat-0"}
    finally:
        world.fleet.lab.mend(ONE)


@fault(
    "VRAM freed in part",
    "a fifth stays taken; the old container asks for 0.7 of a GPU, the new one for 0.9",
    "the new one is not started, the old one is put back and serves",
)
def _(world: World) -> None:
    world.roll(world.wants(args={"gpu-memory-utilization": 0.7}, **QUICK_VRAM), (ONE,)).well()
    before = world.serving(ONE)
    world.fleet.lab.break_("vram-leak:share=0.2", ONE)
    try:
        told = world.roll(world.wants(**QUICK_VRAM), (ONE,))
        told.fails("GPUs are dirty", "wants 0.9 of each to be free", "chat-0 was put back and serves again")
        assert "DOWN" not in told.said
        assert world.serving(ONE) == before
        assert world.fleet.answers(ONE)
    finally:
        world.fleet.lab.mend(ONE)
