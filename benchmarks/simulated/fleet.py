"""A simulated fleet: its server processes, its registry, and the command run against it and measured."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import installed
from benchmarks.simulated.machine import Delays
from benchmarks.simulated.registry import GFX, NAME, ROCM, registry, releases

FLEET = Path(sys.executable).with_name("fleet")
ROOT = Path(__file__).parents[2]
SHARE = 25  # hosts of one server process
MODEL = "tiny-chat"  # of the captured probe
PLAYBOOK = """\
# As playbooks/deploy.yaml, but by availability instead of host by host.
- name: bring
  hosts: all
  stages: [preflight, image, distribute]
- name: roll
  hosts: all
  canary: 1
  serial: [1, 25%, 100%]
  min_available: 75%
  new_hosts_together: true
  max_fail: 0
  min_healthy_time: 5s
  stages: [serve, verify]
"""


@dataclass(frozen=True)
class Cost:
    """One command: wall and CPU seconds (its children's too), its greatest resident size, and what the hosts counted."""

    seconds: float
    cpu: float
    megabytes: float
    counts: Mapping[str, int]
    code: int
    output: str

    @property
    def channels(self) -> int:
        return self.counts.get("channels", 0)

    @property
    def calls(self) -> int:
        """Requests that the controller waited for: commands, Docker API requests, HTTP requests to vLLM."""
        return sum(self.counts.get(kind, 0) for kind in ("commands", "engine", "vllm", "http"))


class SimulatedFleet:
    """Hosts `node-001`…; an inventory for each release, whose number chooses it."""

    def __init__(self, folder: Path, servers: Sequence["subprocess.Popen[str]"]) -> None:
        self.folder, self._servers = folder, servers

    def inventories(self, release: int) -> tuple[Path, ...]:
        """Later ones go over earlier ones."""
        return (self.folder / f"release-{release}.yaml",)

    def run(self, *words: str, release: int = 0, program: Sequence[str | Path] = (FLEET,)) -> Cost:
        """`fleet WORDS` in the fleet's folder, in a process of its own. `program` may be a profiler with fleet in it."""
        given = [str(word) for path in self.inventories(release) for word in ("--inventory", path)]
        before, started, log = self.counts(), time.monotonic(), self.folder / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                (*program, *words, *given),
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=installed(),
            )
            _, status, usage = os.wait4(process.pid, 0)
        counts = self.counts()
        counts.subtract(before)
        return Cost(
            time.monotonic() - started,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            dict(counts),
            os.waitstatus_to_exitcode(status),
            log.read_text(encoding="utf-8", errors="replace"),
        )

    def start(self, *words: str, release: int, folder: str = "", last: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """As `run`, but not waited for, and from a folder of its own. With release -1 there is no inventory."""
        files = self.inventories(release) if release >= 0 else ()
        given = [*(str(word) for path in files for word in ("--inventory", path)), *last]
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        return subprocess.Popen(
            (FLEET, *words, *given),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=place,
            env=installed(),
            text=True,
        )

    def deploy(self, release: int, *more: str) -> Cost:
        return self.run("play", str(self.folder / "roll.yaml"), *more, release=release)

    def counts(self) -> Counter[str]:
        """What all hosts together were asked so far. Raises RuntimeError for a question that is not simulated."""
        total: Counter[str] = Counter()
        for answer in map(_ask, self._servers):
            if answer["unknown"]:
                raise RuntimeError(f"not simulated: {answer['unknown'][0]}")
            total.update(answer["counts"])
        return total

    def serving(self) -> int:
        """Hosts whose vLLM answers at this moment."""
        return sum(int(_ask(server)["serving"]) for server in self._servers)

    def happen(self, host: str, what: str) -> None:
        """`cut`, `away`, `back`, `die`, `break` or `mend`: see server.py."""
        _ask(self._servers[(int(host.rpartition("-")[2]) - 1) // SHARE], f"{host} {what}")


@contextmanager
def simulated(folder: Path, hosts: int, *, delays: Delays | None = None) -> Iterator[SimulatedFleet]:
    """`hosts` hosts on loopback, up to the end of the block; everything they need is written into `folder`."""
    names = [f"node-{number:03d}" for number in range(1, hosts + 1)]
    for key in ("host_key", "user_key"):
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key), check=True)
    images = releases()
    described = [
        {
            "manifest": one.manifest_digest,
            "config": one.config_digest,
            "layers": one.diff_ids,
            "env": dict(one.env),
            "entrypoint": one.entrypoint,
        }
        for one in images
    ]
    settings: dict[str, Any] = {
        "host_key": str(folder / "host_key"),
        "delays": asdict(delays or Delays()),
        "images": described,
    }
    with ExitStack() as stack:
        address = stack.enter_context(registry(images))
        servers = []
        for number, share in enumerate(names[start : start + SHARE] for start in range(0, hosts, SHARE)):
            path = folder / f"server-{number}.json"
            path.write_text(json.dumps({**settings, "hosts": share}), encoding="utf-8")
            servers.append(stack.enter_context(_server(path)))
        ports: dict[str, int] = {}
        for server in servers:
            ports |= json.loads(_line(server))
        key = " ".join((folder / "host_key.pub").read_text(encoding="utf-8").split()[:2])
        known = "".join(f"[127.0.0.1]:{port} {key}\n" for port in ports.values())
        (folder / "known_hosts").write_text(known, encoding="utf-8")
        (folder / "roll.yaml").write_text(PLAYBOOK, encoding="utf-8")
        for number, one in enumerate(images):
            text = _inventory(folder, ports, address, f"{address}/{NAME}@{one.manifest_digest}")
            (folder / f"release-{number}.yaml").write_text(text, encoding="utf-8")
        yield SimulatedFleet(folder, servers)


@contextmanager
def _server(settings: Path) -> Iterator["subprocess.Popen[str]"]:
    command = (sys.executable, "-m", "benchmarks.simulated.server", settings)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _ask(server: "subprocess.Popen[str]", what: str = "") -> dict[str, Any]:
    assert server.stdin is not None  # noqa: S101  it was asked for
    server.stdin.write(f"{what}\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(_line(server))
    return answer


def _line(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None  # noqa: S101  it was asked for
    return server.stdout.readline()


def _inventory(folder: Path, ports: Mapping[str, int], address: str, image: str) -> str:
    hosts = "".join(f"    {name}: {{ansible_port: {port}}}\n" for name, port in ports.items())
    gfx = ", ".join(GFX)
    return f"""\
all:
  vars:
    ansible_host: 127.0.0.1
    ansible_user: root
    ansible_ssh_private_key_file: {folder}/user_key
    ansible_ssh_common_args: -F none -o UserKnownHostsFile={folder}/known_hosts
    fleet:
      gpus: {{model: MI300X, count: 8}}
      image: {{name: {NAME}, prebuilt: "{image}", gfx: [{gfx}], rocm: "{ROCM}"}}
      registry: {{host: "{address}", insecure: true, parallel_pulls: 16}}
      models_dir: /srv/models
      services:
        chat: {{model: {MODEL}, port: 8000, host: 192.0.2.8}}
  hosts:
{hosts}"""
