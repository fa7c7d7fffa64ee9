"""What happens to rolls, as a table: the fault, how it is brought about, what is promised; and the try itself.

Every try begins on hosts that serve, and is followed by a plain deploy that must end with all of them serving again.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.lab.cli import Controller
from tests.lab.rolls import Fleet, within

ROOT = Path(__file__).parents[2]
ONE, TWO, THREE, SUDO, FIVE, SIX = HOSTS = ("n1", "n2", "n3", "n4", "n5", "n6")
STARTS = "wait until chat-0-new"  # said when the old container is stopped and the new one starts
SLOW = {"STANDIN_START_SECONDS": "4"}
LONG = {"STANDIN_START_SECONDS": "20"}  # another command of ours has to fit in
HOLDER = "grep -lx fleet-lock /proc/[0-9]*/comm"


@dataclass(frozen=True)
class Told:
    """How a command ended: its exit code, what it said, and how long it took after the fault."""

    code: int
    said: str
    seconds: float = 0.0

    def fails(self, *words: str) -> None:
        assert self.code == 1, self.said
        assert "\nTraceback" not in self.said, self.said
        assert "mistake of ours" not in self.said, self.said
        for word in words:
            assert word in self.said, self.said

    def well(self) -> None:
        assert self.code == 0, self.said


@dataclass
class World:
    """The fleet, and what an operator may do with it."""

    fleet: Fleet
    rounds: "count[int]" = field(default_factory=lambda: count(1))

    def wants(self, *, release: str = "a", over: dict[str, Any] | None = None, **chat: Any) -> Controller:
        """Another specification than the one that serves."""
        chat["env"] = {"ROUND": str(next(self.rounds)), **chat.get("env", {})}
        return self.fleet.wants(release, over=over, **chat)

    def only(self, host: str, **chat: Any) -> Controller:
        """A change everywhere, and these settings on one host."""
        group = "mi250" if host == SUDO else "mi300x"
        return self.wants(over={group: {"hosts": {host: {"fleet": {"services": {"chat": chat}}}}}})

    def roll(
        self,
        controller: Controller,
        hosts: Sequence[str],
        *words: str,
        at: str = "",
        then: Callable[[subprocess.Popen[str]], object] = lambda _process: None,
        playbook: str = "",
    ) -> Told:
        """Roll these hosts; as soon as the line with `at` is said, do `then`."""
        verb = ("play", self.fleet.playbook("try", playbook)) if playbook else ("deploy",)
        process = controller.start(*verb, "--limit", ",".join(hosts), *words)
        return self.follow(process, at, then)

    def follow(self, process: subprocess.Popen[str], at: str, then: Callable[[subprocess.Popen[str]], object]) -> Told:
        assert process.stderr is not None
        said, began = "", time.monotonic()
        try:
            while at and at not in said:
                line = process.stderr.readline()
                assert line, f"{at!r} was never said:\n{said}"
                said += line
            then(process)
            began = time.monotonic()
            _, rest = process.communicate(timeout=180)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        sys.stdout.write(said + rest)  # pytest shows it where something fails
        return Told(process.returncode, said + rest, time.monotonic() - began)

    def held(self, controller: Controller, host: str, lease: float) -> subprocess.Popen[str]:
        """A roll of one host with a shorter lease than a real one."""
        words = controller.argv("deploy", "--limit", host)[1:]
        argv = (sys.executable, "-m", "tests.lab.crash_driver", "never", host, "", str(lease), "", *words)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=controller.directory, env=environment, stdout=pipe, stderr=pipe, text=True)

    def serving(self, *hosts: str) -> dict[str, str]:
        return {host: self.fleet.serving(host) for host in hosts}

    def sh(self, host: str, script: str) -> str:
        return self.fleet.sh(host, script)

    def engine(self, host: str, *, stop: bool = True, start: bool = True) -> None:
        node = self.fleet.lab.node(host)
        if stop:
            node.stop_engine()
        if start:
            node.start_engine()

    def serves_again(self, host: str, before: dict[str, str], seconds: float = 30) -> None:
        """By itself, with the very container of before."""
        assert within(seconds, lambda: self.fleet.answers(host) and not self.fleet.locked(host))
        assert self.serving(host)[host] == before[host]

    def recovered(self, hosts: Sequence[str]) -> None:
        """A plain deploy, and everything as it should be."""
        assert within(75, lambda: not any(self.fleet.locked(host) for host in hosts))
        code, document = self.fleet.wants("a").ask("deploy", "--limit", ",".join(hosts), "--include-quarantined")
        assert (code, document["failed"]) == (0, {})
        for host in hosts:
            assert self.fleet.answers(host)
            assert self.fleet.containers(host) == {"chat-0"}
            assert self.fleet.docker(host, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "chat-0") != "no"
            assert not [line for line in self.fleet.left(host) if line.startswith(("process", "/tmp/", "/var/tmp/"))]
        assert self.fleet.journal()["state"] == "finished"


@dataclass(frozen=True)
class Fault:
    name: str
    how: str
    promise: str
    hosts: tuple[str, ...]
    proof: Callable[[World], None]


FAULTS: dict[str, Fault] = {}


def fault(name: str, how: str, promise: str, *hosts: str) -> Callable[[Callable[[World], None]], None]:
    def keep(proof: Callable[[World], None]) -> None:
        FAULTS[name] = Fault(name, how, promise, hosts or (ONE,), proof)

    return keep


# New containers that are no good

BACK = "the old container serves again, the next host is not touched, exit code 1"
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "new container crashes": (
        "it ends while it loads weights",
        {"env": {"STANDIN_FAIL": "no_hip_gpus"}},
        "stopped by itself",
    ),
    "new container hangs": (
        "it stands still at 50 % of the weights; progress_deadline 2 s",
        {"env": {"STANDIN_HANG": "weights"}, "progress_deadline": 2},
        "made no progress",
    ),
    "new container answers wrongly": ("it answers garbage", {"env": {"STANDIN_GARBAGE": "1"}}, "does not serve"),
    "new container serves the wrong model": (
        "/v1/models names another",
        {"env": {"STANDIN_WRONG_MODEL": "other"}},
        "other",
    ),
}
TWO_BY_TWO = """\
- {name: roll, hosts: all, canary: 1, stages: [preflight, image, distribute, serve, verify], min_healthy_time: 0s}
"""


def _bad(name: str, how: str, chat: dict[str, Any], said: str) -> None:
    @fault(name, how, BACK, ONE, TWO)
    def _(world: World) -> None:
        before = world.serving(ONE, TWO)
        told = world.roll(world.wants(**chat), (ONE, TWO), playbook=TWO_BY_TWO)
        told.fails(said, "the canary n1 failed", "chat-0 was put back and serves again")
        assert world.serving(ONE, TWO) == before
        assert world.fleet.answers(ONE)


for _name, (_how, _chat, _said) in BAD.items():
    _bad(_name, _how, _chat, _said)


@fault(
    "new container dies after it answered",
    "killed while it is watched (min_healthy_time 20 s)",
    "the old container serves again",
)
def _(world: World) -> None:
    before = world.serving(ONE)
    book = "- {name: roll, hosts: all, stages: [image, serve, verify], min_healthy_time: 20s}\n"
    told = world.roll(
        world.wants(),
        (ONE,),
        at="watch chat-0-new",
        then=lambda _p: world.sh(ONE, "docker kill chat-0-new"),
        playbook=book,
    )
    told.fails("did not stay healthy", "serves again")
    world.serves_again(ONE, before)


@fault("new container answers slowly", "0.2 s a token", "it is taken, and its speed is told")
def _(world: World) -> None:
    code, document = world.wants(env={"STANDIN_SLOW_TOKENS": "0.2"}).ask("deploy", "--limit", ONE)
    assert (code, document["failed"]) == (0, {})
    assert 0 < document["hosts"][ONE]["proofs"]["chat-0"]["tokens_per_s"] < 10


# Hosts that fail among others

SIX_AT_ONCE = """\
- name: roll
  hosts: all
  serial: 1
  max_fail: {max_fail}
  min_healthy_time: 0s
  stages: [preflight, image, distribute, serve, verify]
"""


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


# The engine, the machine, the disk


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
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.engine(ONE))
    told.fails()
    world.serves_again(ONE, before)


@fault(
    "dockerd stopped for good",
    "stopped while the new container starts",
    "the host is said to be down, first; once dockerd runs again a deploy mends it",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.engine(ONE, start=False))
    world.engine(ONE, stop=False)
    told.fails("DOWN n1")


@fault(
    "node rebooted mid-roll",
    "rebooted while the new container starts",
    "the host is said to be down, first; the next deploy mends it",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.fleet.lab.break_("rebooted", ONE))
    world.fleet.lab.mend(ONE)
    told.fails("DOWN n1")


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

    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=both)
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


# Hands


@fault("new container removed by hand", "docker rm -f while it starts", "the old container serves again")
def _(world: World) -> None:
    before = world.serving(ONE)
    world.roll(
        world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.sh(ONE, "docker rm -f chat-0-new")
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
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda _p: world.sh(ONE, kill))
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
            world.wants(env=SLOW), (SUDO,), at=STARTS, then=lambda _p: world.sh(SUDO, "mv /etc/sudoers.d/ops /etc/ops")
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


# The controller


@fault(
    "controller gets SIGTERM",
    "while the new container starts",
    "the old container serves again, or the new one if it had answered; nothing is half done",
)
def _(world: World) -> None:
    told = world.roll(world.wants(env=SLOW), (ONE,), at=STARTS, then=lambda process: process.terminate())
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
            world.wants(env=SLOW),
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


# Hosts that are away


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


# The GPUs' memory

QUICK_VRAM: dict[str, Any] = {"vram_wait": 2}


@fault(
    "GPUs held by somebody else",
    "a foreign process takes a GPU as the old container stops",
    "nothing is started there, the host is said to be down, first, and who holds the GPU; the process stays untouched; "
    "once it is gone a deploy mends it",
)
def _(world: World) -> None:
    try:
        told = world.roll(
            world.wants(**QUICK_VRAM),
            (ONE,),
            at="stop chat-0 ",
            then=lambda _p: world.fleet.lab.break_("gpu-busy", ONE),
        )
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
