"""The engine, the machine, the disk and the port under a roll."""

import signal
import subprocess

from tests.lab.faults.world import LONG, ONE, SLOW, STARTS, TWO, World, fault
from tests.lab.rolls import within


@fault("dockerd restarted during a pull", "stopped and started once the pull has begun", "the old container serves")
def _(world: World) -> None:
    before = world.serving(ONE)
    told = world.roll(world.wants(release="b"), (ONE,), at="n1: pull", then=lambda _p: world.engine(ONE))
    assert told.code in (0, 1)
    if told.code:
        world.serves_again(ONE, before)
    assert within(20, lambda: world.fleet.answers(ONE))


@fault(
    "dockerd restarted during a start",
    "stopped and started while the new container starts",
    "what serves at the end is one container that answers, and a failure is said",
)
def _(world: World) -> None:
    before = world.serving(ONE)
    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=lambda _p: world.engine(ONE))
    told.fails()
    world.serves_again(ONE, before)


@fault(
    "dockerd stopped for good",
    "stopped while the new container starts",
    "the host is said to be down, first; once dockerd runs again a deploy mends it",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=lambda _p: world.engine(ONE, start=False))
    world.engine(ONE, stop=False)
    told.fails("DOWN n1")


@fault(
    "node rebooted mid-roll",
    "rebooted while the new container starts",
    "the host is said not to be reached, or, if it answers again by then, to be down, first; the next deploy mends it",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=lambda _p: world.fleet.lab.break_("rebooted", ONE))
    world.fleet.lab.mend(ONE)
    told.fails()
    assert "NOT REACHED n1: lost in the middle of a change" in told.said or "DOWN n1" in told.said


@fault(
    "controller killed, and the host rebooted before it could put back",
    "kill -9 and a reboot in the same second, the old container held",
    "the next deploy serves; nothing is left over",
)
def _(world: World) -> None:
    def both(process: subprocess.Popen[str]) -> None:
        process.kill()
        world.fleet.lab.node(ONE).stop()
        world.fleet.lab.node(ONE).start()

    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=both)
    assert told.code == -signal.SIGKILL


@fault(
    "disk full",
    "no room under Docker's root when the new release is brought",
    "the old container serves, and why is said",
)
def _(world: World) -> None:
    before = world.serving(ONE)
    world.fleet.prune(ONE)
    world.fleet.lab.break_("docker-disk-full", ONE)
    try:
        world.roll(world.wants(release="b"), (ONE,)).fails("n1")
        assert world.serving(ONE) == before
        assert world.fleet.answers(ONE)
    finally:
        world.fleet.lab.mend(ONE)


@fault("registry gone mid-roll", "stopped as the release is brought", "the old container serves, and why is said")
def _(world: World) -> None:
    before = world.serving(ONE)
    world.fleet.prune(ONE)
    node = world.fleet.lab.node("registry")
    try:
        told = world.roll(
            world.wants(release="b"), (ONE,), at="bring, batch 1", then=lambda _p: node.stop_service("registry")
        )
    finally:
        node.start_service("registry")
    if told.code:
        told.fails(world.fleet.lab.registry)
        assert world.serving(ONE) == before
    assert world.fleet.answers(ONE)


@fault(
    "port stolen",
    "a stranger listens on the port as soon as the old container is stopped",
    "the host is said to be down, first; once the stranger is gone a deploy mends it",
)
def _(world: World) -> None:
    thief = "setsid -f sh -c 'echo $$ >/run/thief.pid; exec python3 -m http.server 8000' >/dev/null 2>&1 </dev/null"
    wait = "while docker inspect -f '{{.State.Running}}' chat-0 | grep -q true; do sleep 0.05; done"
    try:
        told = world.roll(
            world.wants(env=SLOW), (ONE,), at="stop chat-0 ", then=lambda _p: world.sh(ONE, f"{wait}; {thief}")
        )
    finally:
        world.sh(ONE, "kill $(cat /run/thief.pid); rm /run/thief.pid; docker ps")
    told.fails("n1")
    assert "DOWN n1" in told.said or world.serving(ONE)[ONE]


@fault(
    "clock off by a day", "the host's clock is set a day ahead while the new container starts", "the roll goes through"
)
def _(world: World) -> None:
    node = world.fleet.lab.node(ONE)
    try:
        world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: node.set_clock(86400)).well()
    finally:
        node.set_clock(0)


@fault(
    "host key changed between batches",
    "the second host is installed anew while the first one is replaced",
    "it is not trusted and not touched; the first one is new",
    ONE,
    TWO,
)
def _(world: World) -> None:
    before = world.serving(ONE, TWO)
    try:
        told = world.roll(
            world.wants(env=SLOW),
            (ONE, TWO),
            at="n1: wait until chat-0-new",
            then=lambda _p: world.fleet.lab.break_("hostkey-changed", TWO),
        )
    finally:
        world.fleet.lab.mend(TWO)
    told.fails("n2")
    after = world.serving(ONE, TWO)
    assert after[ONE] != before[ONE]
    assert after[TWO] == before[TWO]
