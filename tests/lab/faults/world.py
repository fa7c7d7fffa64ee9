"""What happens to rolls, as a table: the fault, how it is brought about, what is promised; and the try itself.

Every try begins on hosts that serve, and is followed by a plain deploy that must end with all of them serving again.
"""

import os
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

ROOT = Path(__file__).parents[3]
ONE, TWO, THREE, SUDO, FIVE, SIX = HOSTS = ("n1", "n2", "n3", "n4", "n5", "n6")
STARTS = "wait until chat-0-new"  # said when the old container is stopped and the new one starts
SLOW = {"STANDIN_START_SECONDS": "4"}  # a fault that comes too late does no harm
LATER = {"STANDIN_START_SECONDS": "10"}  # it answers in the end, but not before the fault is there
LONG = {"STANDIN_START_SECONDS": "30"}  # the new container must not answer before the fault is there

SIX_AT_ONCE = """\
- name: roll
  hosts: all
  serial: 1
  max_fail: {max_fail}
  min_healthy_time: 0s
  stages: [preflight, image, distribute, serve, verify]
"""


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
        assert self.fleet.finished()


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
