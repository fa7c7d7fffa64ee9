"""What tests of relays share: hosts behind one bastion whose link is counted, and a run that is disturbed under way."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, OFFLINE
from tests.lab.rolls import Fleet, within

FIRST, SECOND, THIRD, DEV = OFFLINE.name, "mi300x-off-02", "mi300x-off-03", "mi300x-off-04"
SPECS = (
    BASTION,
    OFFLINE,
    NodeSpec(SECOND, profile="mi300x-8", offline=True, base="trixie", containerd_store=True),
    NodeSpec(THIRD, profile="mi300x-8", offline=True),
    NodeSpec(DEV, profile="mi300x-8", offline=True, base="trixie", containerd_store=True, user="dev"),
)
ROOTS = (FIRST, SECOND, THIRD)
LIMIT = ("--limit", f"!{DEV}")
MIB = 1 << 20
BALLAST = 40 * MIB
MODEL = 12 * MIB
TALK = 2 * MIB  # everything else that a run says to three hosts
DISTRIBUTE = ("deploy", "--stages", "image,distribute")


@dataclass(frozen=True)
class Story:
    fleet: Fleet
    archive: Path  # of the registry

    def wants(self, release: str = "a", **relay: Any) -> Controller:
        setting = {"host": "auto", "image": {"archive": str(self.archive)}, **relay}
        fleet = {"relay": setting, "sideload": {"limit": "10MB/s"}}  # a fill has a middle too
        return self.fleet.wants(release, over={"all": {"vars": {"fleet": fleet}}})

    def wire(self) -> int:
        """Bytes that went over the slow link so far."""
        (link, _) = self.fleet.lab.node(BASTION.name).links
        return int((Path("/sys/class/net") / link.outside / "statistics/tx_bytes").read_text())

    def size(self, release: str) -> int:
        _, document = self.wants(release).ask("plan", *LIMIT)
        return sum(known["bytes"] for known in document["images"]["releases"].values())

    def take_away(self, *hosts: str, registry: bool = False) -> None:
        """The hosts as if they had never had the image; `registry`: nor the relay's own."""
        these = "$(docker images -q)" if registry else "$(docker images -q vllm-rocm)"
        for host in hosts:
            self.fleet.sh(host, f"docker rmi -f {these}; docker image prune -f; true")

    def hold(self, *hosts: str) -> bool:
        return all(self.fleet.docker(host, "images", "-q", "vllm-rocm") for host in hosts)

    def relay_image(self, host: str) -> bool:
        """Has the host the registry's image already?"""
        return "fleet-relay" in self.fleet.docker(host, "images")

    def left(self, *hosts: str) -> list[str]:
        """Of relays, but for their stores: containers, listeners, what they ran with, trust of others."""
        script = (
            "docker ps -aq --filter label=io.fleet.relay; ls -A /etc/docker/certs.d 2>/dev/null;"
            " ls -d /var/tmp/fleet*/relay/run 2>/dev/null; ls -d /var/tmp/fleet*/sideload 2>/dev/null;"
            " grep -i ':1543 ' /proc/net/tcp | grep ' 0A '; true"
        )
        return [f"{host}: {line}" for host in hosts for line in self.fleet.sh(host, script).splitlines()]

    def slow_relay(self) -> None:
        """What the first host sends to others goes slowly, so that there is a middle."""
        self.fleet.sh(FIRST, "tc qdisc replace dev eth0 root tbf rate 16mbit burst 32kb latency 400ms")

    def mend(self) -> None:
        self.fleet.sh(FIRST, "tc qdisc del dev eth0 root; true")


def well(controller: Controller, *words: str) -> str:
    done = controller.run(*words, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def unchanged(story: Story, controller: Controller, *words: str) -> None:
    """A run that changes nothing and moves nothing."""
    before = story.wire()
    code, document = controller.ask(*DISTRIBUTE, *words)
    assert (code, document["failed"]) == (0, {})
    assert {host["changed"] for host in document["hosts"].values()} == {0}
    assert story.wire() - before < TALK


class UnderWay:
    """A run whose first host serves the others, slowly; what it says goes on to be read."""

    def __init__(self, story: Story, release: str) -> None:
        story.slow_relay()
        self.process = story.wants(release).start(*DISTRIBUTE, *LIMIT)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, ready: Callable[[], bool]) -> None:
        assert within(120, lambda: self.process.poll() is not None or ready(), every=0.1)
        assert self.process.poll() is None, self.said

    def until_it_serves(self) -> None:
        self.until(lambda: f"{FIRST}: is the relay at" in self.said)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))
