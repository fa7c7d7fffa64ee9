"""A small fleet that serves one of two releases, for tests that roll it to the other one and disturb that."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fleet.journal import read
from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import lab_name
from tests.lab.small import Site
from tests.lab.standin_image import image_text, standin_archive

PORT = 8000
QUICK = {"STANDIN_START_SECONDS": "0.3"}
# Everything that a command of ours could leave on a host, beside containers and images.
PLACES = ("/tmp", "/var/tmp", "/run", "/var/lib/fleet", "/root", "/etc/docker/certs.d")
SPEC = (
    "{{.Name}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}} {{.Config.Image}} {{.Config.Env}} "
    '{{.Config.Cmd}} {{.HostConfig.Binds}} {{.HostConfig.GroupAdd}} {{index .Config.Labels "io.fleet.spec"}}'
)
BASIC = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 100%}
- {name: roll, hosts: all, stages: [serve, verify], max_fail: 100%, min_healthy_time: 1s}
"""


@dataclass(frozen=True)
class Fleet(Site):
    """The lab, and commands over it. `secrets` is the environment that every command gets."""

    secrets: Mapping[str, str] = field(default_factory=dict)

    def wants(self, release: str, *, over: Mapping[str, Any] | None = None, **chat: Any) -> Controller:
        """The command for an operator who wants this release, with these settings of the service."""
        chat["env"] = {**QUICK, **chat.get("env", {})}
        everywhere = {"gpu": {"vars": {"fleet": {"services": {"chat": chat}}}}}
        files = (
            self.lab.inventory,
            self.folder / f"image-{release}.yaml",
            self._written(everywhere),
            *([self._written(over)] if over else ()),
        )
        return Controller(self.controller.directory, files)

    @property
    def here(self) -> Controller:
        """The controller's own memory: commands that know no inventory."""
        return Controller(self.controller.directory, ())

    def playbook(self, name: str, text: str) -> str:
        """A playbook to be given to `play`."""
        path = self.controller.directory / f"playbooks/{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def address(self, host: str) -> str:
        return self.lab.topology.address(host)

    def answers(self, host: str) -> bool:
        return answers(self.address(host))

    def state(self, host: str) -> list[str]:
        """What is on the host, without what differs from one container of a specification to the next."""
        names = sorted(self.containers(host))
        shown = self.docker(host, "inspect", "-f", SPEC, *names).splitlines() if names else []
        return [*shown, *(f"image {one}" for one in sorted(self.docker(host, "images", "-q", "--no-trunc").split()))]

    def left(self, host: str) -> list[str]:
        """Files of ours on the host, and processes: those of a command that has just ended get a moment to go."""
        processes = "grep -lsE 'fleet[-_]loc[k]|dial-stdi[o]|fleet-switc[h]' /proc/[0-9]*/cmdline || true"
        within(10, lambda: not self.sh(host, processes))
        files = self.sh(host, f"find {' '.join(PLACES)} -xdev \\( -type f -o -type d \\) 2>/dev/null | sort")
        quiet = ("/run/docker", "/run/containerd", "/run/lab.", "/run/runc", "/run/utmp", "/run/sudo", "/run/log")
        known = ("audit", "secrets", "/var/lib/fleet/releases")  # kept on purpose, but for halves of files
        lines = [one for one in files.splitlines() if ".fleet-" in one or not any(word in one for word in known)]
        lines = [one for one in lines if not one.startswith(quiet)]
        script = f"for file in $({processes}); do tr '\\0' ' ' <$file; echo; done"
        return [*lines, *(f"process {one[:80]}" for one in self.sh(host, script).splitlines())]

    def locked(self, host: str) -> bool:
        return self.sh(host, "flock -n /run echo free || true") != "free"

    def journal(self) -> dict[str, Any]:
        """The last run as `runs.show` tells it."""
        done = self.here.run("runs.show", "last", "--json")
        assert done.returncode == 0, done.stderr
        story: dict[str, Any] = json.loads(done.stdout)
        return story

    def finished(self) -> bool:
        """Whether the last run came to its end, by its journal."""
        return read(self.controller.directory / ".fleet").state == "finished"

    def _written(self, document: Mapping[str, Any]) -> Path:
        text = json.dumps(document)
        path = self.folder / f"over-{abs(hash(text))}.yaml"
        path.write_text(text, encoding="utf-8")
        return path


@contextmanager
def fleet_of(
    word: str, folder: Path, *specs: NodeSpec, ballast: int = 0, playbook: str = BASIC, **over: Any
) -> Iterator[Fleet]:
    """A lab of its own, with the releases `a` and `b` to be had; nothing is on the hosts yet."""
    name = lab_name(word)
    try:
        lab = Lab.up(name, specs, inventories=folder)
        for mark in "ab":
            archive = standin_archive(folder / f"{mark}.tar", mark=mark, ballast=ballast)
            (folder / f"image-{mark}.yaml").write_text(image_text(archive, registry=bool(lab.registry)))
        work = folder / "controller"
        (work / "playbooks").mkdir(parents=True)
        (work / "playbooks/deploy.yaml").write_text(playbook)
        yield Fleet(lab, Controller(work, (lab.inventory, folder / "image-a.yaml")), folder)
    finally:
        Lab.remove(name)


def answers(address: str, *, port: int = PORT, path: str = "/health", timeout: float = 1.0) -> bool:
    """Straight over the network, past everything of ours."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def within(seconds: float, ready: Callable[[], bool], *, every: float = 0.2) -> bool:
    end = time.monotonic() + seconds
    while not (well := ready()) and time.monotonic() < end:
        time.sleep(every)
    return well


class Sampler:
    """Asks every address for /health every 100 ms, each from a thread of its own. Use as a context manager."""

    def __init__(self, addresses: Sequence[str], every: float = 0.1) -> None:
        self.lowest = len(addresses)
        self.samples = 0
        self._addresses, self._every = tuple(addresses), every
        self._now = dict.fromkeys(addresses, True)
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(one,), daemon=True) for one in addresses]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: str) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            well = answers(address)
            with self._guard:
                self.samples += 1
                self._now[address] = well
                self.lowest = min(self.lowest, sum(self._now.values()))
            due = max(due + self._every, time.monotonic())
            self._stopped.wait(due - time.monotonic())
