"""A controller that is ended, stands still, or cannot write."""

import signal
import subprocess
import time

from tests.lab.faults.world import LATER, LONG, ONE, STARTS, World, fault
from tests.lab.rolls import within


@fault(
    "controller gets SIGTERM",
    "while the new container starts",
    "the old container serves again, or the new one if it had answered; nothing is half done",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=lambda process: process.terminate())
    assert told.code == 130
    assert "\nTraceback" not in told.said
    assert within(15, lambda: world.fleet.answers(ONE) and not world.fleet.locked(ONE))
    assert world.fleet.containers(ONE) == {"chat-0"}


@fault(
    "controller stands still past its lease",
    "SIGSTOP while the new container starts, lease 6 s; SIGCONT afterwards",
    "the host puts the old one back; the controller then touches nothing and says that it lost the lock",
)
def _(world: World) -> None:
    before = world.serving(ONE)

    def still(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(7)
            world.serves_again(ONE, before)
        finally:
            process.send_signal(signal.SIGCONT)

    told = world.follow(world.held(world.wants(env=LONG), ONE, 6), STARTS, still)
    told.fails("lost the lock of n1")
    assert world.serving(ONE) == before


@fault(
    "journal's disk full",
    "the disk below .fleet/runs fills up while the new container starts",
    "the roll goes through, and that the journal is not complete is said",
)
def _(world: World) -> None:
    runs = world.fleet.controller.directory / ".fleet/runs"
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=256k", "none", str(runs)), check=True)
    try:
        told = world.roll(
            world.wants(env=LATER),
            (ONE,),
            at=STARTS,
            then=lambda _p: subprocess.run(
                ("dd", "if=/dev/zero", f"of={runs}/full", "bs=4k"), check=False, capture_output=True
            ),
        )
    finally:
        subprocess.run(("umount", "--lazy", str(runs)), check=True)
    told.well()
    assert "is not complete" in told.said


@fault(".fleet cannot be written", "mounted read-only before the roll", "nothing is touched, and why is said")
def _(world: World) -> None:
    before = world.serving(ONE)
    runs = world.fleet.controller.directory / ".fleet/runs"
    subprocess.run(("mount", "-t", "tmpfs", "-o", "ro", "none", str(runs)), check=True)
    try:
        world.roll(world.wants(), (ONE,)).fails("journal")
    finally:
        subprocess.run(("umount", "--lazy", str(runs)), check=True)
    assert world.serving(ONE) == before
