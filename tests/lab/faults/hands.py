"""Hands that meddle on the host while a roll is under way."""

from typing import Any

from tests.lab.faults.world import LATER, LONG, ONE, SLOW, STARTS, SUDO, World, fault
from tests.lab.rolls import within

HOLDER = "grep -lx fleet-lock /proc/[0-9]*/comm"


@fault("new container removed by hand", "docker rm -f while it starts", "the old container serves again")
def _(world: World) -> None:
    before = world.serving(ONE)
    world.roll(
        world.wants(env=LONG), (ONE,), at=STARTS, then=lambda _p: world.sh(ONE, "docker rm -f chat-0-new")
    ).fails()
    world.serves_again(ONE, before)


@fault(
    "held container removed by hand",
    "docker rm of the old one while the new one starts",
    "the new one serves in the end",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.sh(ONE, "docker rm chat-0"))
    assert "Traceback" not in told.said
    assert within(5, lambda: world.fleet.answers(ONE))


@fault(
    "unlock during a roll",
    "invoke unlock while the new container starts",
    "the host puts the old one back; the roll touches nothing more and says that it lost the lock",
)
def _(world: World) -> None:
    before = world.serving(ONE)
    told = world.roll(
        world.wants(env=LONG),
        (ONE,),
        at=STARTS,
        then=lambda _p: world.fleet.controller.run("unlock", "--limit", ONE),
    )
    told.fails("lost the lock of n1")
    world.serves_again(ONE, before)


@fault(
    "lock's holder killed on the host",
    "kill -9 of it while the new container starts",
    "the roll touches nothing more and says so; what does not serve then is said to be down; the next deploy ends it",
)
def _(world: World) -> None:
    kill = f"for file in $({HOLDER}); do pid=${{file#/proc/}}; kill -9 ${{pid%/comm}}; done"
    told = world.roll(world.wants(env=LONG), (ONE,), at=STARTS, then=lambda _p: world.sh(ONE, kill))
    told.fails("lost the lock of n1")
    assert "DOWN n1" in told.said or world.fleet.answers(ONE)


@fault(
    "sudo revoked mid-roll",
    "the sudoers entry is taken away while the new container starts",
    "the host serves, by what was begun over open connections or by its own switch; the failure is said",
    SUDO,
)
def _(world: World) -> None:
    try:
        told = world.roll(
            world.wants(env=LATER), (SUDO,), at=STARTS, then=lambda _p: world.sh(SUDO, "mv /etc/sudoers.d/ops /etc/ops")
        )
        told.fails("n4")
        assert within(75, lambda: world.fleet.answers(SUDO) and not world.fleet.locked(SUDO))
    finally:
        world.sh(SUDO, "mv /etc/ops /etc/sudoers.d/ops")


@fault(
    "secrets file removed on the host",
    "rm of what the container mounts",
    "the plan names it, and a deploy writes it again",
)
def _(world: World) -> None:
    secret: dict[str, Any] = {"secrets": {"VLLM_API_KEY": {"command": ["echo", "sk-of-the-fault-test"]}}}
    controller = world.wants(**secret)
    world.roll(controller, (ONE,)).well()
    world.sh(ONE, "find /var/lib/fleet /opt /root -path '*secrets/*' -type f -delete")
    assert "secrets" in controller.run("plan", "--limit", ONE).stdout
    world.roll(controller, (ONE,)).well()
    assert world.fleet.answers(ONE)
