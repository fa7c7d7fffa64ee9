"""A site of GPU hosts without a registry: what an operator does there with fleet and by hand, and how long it took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environment import installed
from fleet.lab import Lab
from tests.lab.cli import Controller
from tests.lab.standin_image import image_text

if TYPE_CHECKING:
    from benchmarks.ratios import Ratio

LINK = 50  # Mbit/s
PLAYBOOK = "- {name: bring, hosts: all, stages: [image, distribute], max_fail: 0}\n"
NAME = "vllm-rocm"
LOADED = f"{NAME}:standin"  # as the archive calls it


class Site:
    """A lab of GPU hosts without a registry, one more engine for the operator's own machine, and the operator's commands."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.ratios: list[Ratio] = []
        self.layer = 0  # bytes
        self.desk, *self.hosts = [spec.name for spec in lab.topology.specs]
        work = folder / "controller"
        (work / "playbooks").mkdir(parents=True)
        (work / "playbooks/deploy.yaml").write_text(PLAYBOOK, encoding="utf-8")

    def operator(self, archive: Path, **fleet: object) -> Controller:
        """For an image, with these settings of the whole fleet."""
        image, more = archive.with_suffix(".yaml"), archive.with_suffix(".more.yaml")
        image.write_text(image_text(archive, registry=False), encoding="utf-8")
        more.write_text(json.dumps({"all": {"vars": {"fleet": fleet}}}), encoding="utf-8")
        return Controller(self.folder / "controller", (self.lab.inventory, image, more))

    def forget(self, *hosts: str) -> None:
        """Take our images off hosts, but not the relay's registry."""
        for host in hosts:
            script = f"docker rmi -f $(docker images -q {NAME}); rm -rf /var/tmp/fleet/relay; true"
            self.lab.node(host).exec(("sh", "-c", script))

    def by_hand(self, host: str) -> None:
        """From the desk, where the image was loaded before."""
        self.naive(self.desk, host, LOADED)

    def load(self, host: str, archive: Path) -> None:
        """Have the host's engine load an archive, not over the network."""
        with archive.open("rb") as file:
            argv = self.lab.node(host).inside(("docker", "load"))
            subprocess.run(argv, stdin=file, check=True, stdout=subprocess.DEVNULL)

    def naive(self, source: str, host: str, name: str) -> None:
        """`docker save NAME | ssh HOST docker load` on the machine of `source`, whose engine has the image."""
        save = self.lab.node(source).inside(("docker", "save", name))
        with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
            load = self.lab.ssh_argv(host, "docker", "load")
            subprocess.run(load, stdin=saving.stdout, check=True, stdout=subprocess.DEVNULL)

    def sent(self) -> int:
        """Bytes that the controller sent to the hosts so far."""
        statistics = Path("/sys/class/net") / self.lab.topology.main_bridge / "statistics/tx_bytes"
        return int(statistics.read_text())

    @contextmanager
    def slow(self) -> Iterator[None]:
        """The controller's link to all hosts together; what hosts say to each other is not slowed."""
        device = self.lab.topology.main_bridge
        shape = ("rate", f"{LINK}mbit", "burst", "128kb", "latency", "200ms")
        subprocess.run(("tc", "qdisc", "replace", "dev", device, "root", "tbf", *shape), check=True)
        try:
            yield
        finally:
            subprocess.run(("tc", "qdisc", "delete", "dev", device, "root"), check=True)


def timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def on_disk(work: Callable[[], object]) -> float:
    """The same, with all bytes on the disk at the end."""

    def whole() -> None:
        work()
        os.sync()

    return timed(whole)


def well(controller: Controller, *words: str) -> None:
    argv, place = controller.argv(*words), controller.directory
    done = subprocess.run(argv, cwd=place, env=installed(), capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        sys.exit(f"fleet {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def until_there(controller: Controller) -> float:
    """Seconds of the newest run, by its journal, from its beginning until its last step on a host has ended.

    Beside the whole command it leaves out the start of the program and the look at what came of it, as by hand nobody has either.
    """
    newest = max((controller.directory / ".fleet/runs").glob("*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]
    ended: float = max(line["mono"] for line in lines if line["type"] == "end")
    return ended - float(lines[0]["mono"])
