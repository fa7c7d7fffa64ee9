"""Hosts that fail, are away or are left out, among others."""

import json

from tests.lab.cli import Controller
from tests.lab.faults.world import FIVE, HOSTS, ONE, SIX, SIX_AT_ONCE, SLOW, SUDO, THREE, TWO, World, fault


@fault(
    "the third of six hosts fails, max_fail 0",
    "its new container crashes",
    "the first two are new, the third serves the old, the others are untouched and said to be so",
    *HOSTS,
)
def _(world: World) -> None:
    before = world.serving(*HOSTS)
    told = world.roll(
        world.only(THREE, env={"STANDIN_FAIL": "no_hip_gpus"}), HOSTS, playbook=SIX_AT_ONCE.format(max_fail=0)
    )
    told.fails("max_fail is 0", "not begun", "serve")
    after = world.serving(*HOSTS)
    assert {host for host in HOSTS if after[host] == before[host]} == {THREE, SUDO, FIVE, SIX}
    assert all(world.fleet.answers(host) for host in HOSTS)


@fault(
    "the third of six hosts fails, max_fail 1",
    "its new container crashes",
    "the other five are new, the third serves the old",
    *HOSTS,
)
def _(world: World) -> None:
    before = world.serving(*HOSTS)
    told = world.roll(
        world.only(THREE, env={"STANDIN_FAIL": "no_hip_gpus"}), HOSTS, playbook=SIX_AT_ONCE.format(max_fail=1)
    )
    told.fails("chat-0 was put back and serves again")
    after = world.serving(*HOSTS)
    assert {host for host in HOSTS if after[host] == before[host]} == {THREE}


@fault(
    "two controllers at once",
    "two rolls of the same two hosts, started in the same moment",
    "no host is changed by both",
    ONE,
    TWO,
)
def _(world: World) -> None:
    folder = world.fleet.folder / "second"
    (folder / "playbooks").mkdir(parents=True, exist_ok=True)
    (folder / "playbooks/deploy.yaml").write_text(
        (world.fleet.controller.directory / "playbooks/deploy.yaml").read_text()
    )
    rolls = [world.wants(), Controller(folder, world.wants().inventories)]
    running = [one.start("deploy", "--limit", f"{ONE},{TWO}", "--json") for one in rolls]
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    for host in (ONE, TWO):
        assert sum(bool(one["hosts"].get(host, {}).get("changed")) for one in documents) <= 1
        assert world.fleet.answers(host)
    for one in documents:
        for failure in one["failed"].values():
            assert "locked by" in failure["message"] or "not begun" in failure["message"], failure


@fault(
    "unreachable at first, back at the end of the batch",
    "sshd of the second host is down until the first one is replaced",
    "it is tried again and gets the release too",
    ONE,
    TWO,
)
def _(world: World) -> None:
    before = world.serving(ONE, TWO)
    world.fleet.lab.break_("sshd-down", TWO)
    try:
        told = world.roll(
            world.wants(env=SLOW),
            (ONE, TWO),
            at="wait until chat-0-new",
            then=lambda _p: world.fleet.lab.mend(TWO),
            playbook=SIX_AT_ONCE.format(max_fail="50%"),
        )
    finally:
        world.fleet.lab.mend(TWO)
    told.well()
    after = world.serving(ONE, TWO)
    assert all(after[host] != before[host] for host in (ONE, TWO))


@fault(
    "a quarantined host",
    "unreachable in one run, and in the next",
    "the next run leaves it out, with the reason; --include-quarantined takes it in once it is back",
    ONE,
    TWO,
)
def _(world: World) -> None:
    before = world.serving(ONE, TWO)
    world.fleet.lab.break_("sshd-down", TWO)
    try:
        world.roll(world.wants(), (ONE, TWO)).fails("n2")
        told = world.roll(world.wants(), (ONE, TWO))
    finally:
        world.fleet.lab.mend(TWO)
    assert "in quarantine since" in told.said
    assert "--include-quarantined" in told.said
    after = world.serving(ONE, TWO)
    assert after[ONE] != before[ONE]
    assert after[TWO] == before[TWO]
    world.roll(world.wants(), (TWO,), "--include-quarantined").well()


@fault("a host in maintenance", "invoke maintenance before the roll", "it is left out and untouched", ONE, TWO)
def _(world: World) -> None:
    before = world.serving(ONE, TWO)
    command = world.wants()
    assert command.run("maintenance", "--host", TWO, "--reason", "new fans").returncode == 0
    try:
        told = world.roll(command, (ONE, TWO))
    finally:
        assert command.run("maintenance", "--host", TWO, "--end").returncode == 0
    assert "new fans" in told.said
    after = world.serving(ONE, TWO)
    assert after[ONE] != before[ONE]
    assert after[TWO] == before[TWO]
