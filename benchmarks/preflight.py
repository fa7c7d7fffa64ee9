"""How long a preflight of 50 hosts takes, against its floor and its peers, in one run.

One node of a lab of its own answers on 50 addresses, its sshd's MaxStartups raised for everybody. All peers run at the
same concurrency, as processes of their own, and are measured in turn, `--rounds` times; the figure of a peer is its
best round, and what is printed are ratios to ours.

- floor: OpenSSH, one connection a host, the same probe script piped to `sh -s`; and the peers' questions by no connection at all.
- ansible-playbook with pipelining, and pyinfra: four questions (kfd, driver, Docker, free space) a host, beside ours with
  the same four in one round trip. pyinfra asks them as facts of a deploy file, and once more as operations.

    .venv/bin/python -m benchmarks.preflight --hosts 50 --forks 16
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import installed
from fleet.facts import PROBE
from fleet.lab import Lab
from fleet.lab.topology import NodeSpec

QUESTIONS = (
    "stat -c '%a %u %g' /dev/kfd",
    "cat /sys/module/amdgpu/version",
    "docker version --format '{{.Server.Version}}'",
    "df -B1 --output=avail /var/lib/docker",
)
BIN = Path(sys.executable).parent
PYINFRA = Path("/var/cache/fleet-lab/pyinfra")  # pyinfra needs an older paramiko, so it has an environment of its own


@dataclass(frozen=True)
class Sample:
    """One run of one peer: wall time and the greatest resident size of its main process."""

    seconds: float
    megabytes: float


class Bench:
    """Fifty addresses of one node, and each peer's way to ask them."""

    def __init__(self, lab: Lab, folder: Path, hosts: int, forks: int) -> None:
        self.folder, self.forks = folder, forks
        self.key = lab.paths.client_key
        network = lab.topology.controller.rsplit(".", 2)[0]
        self.addresses = [f"{network}.1.{number}" for number in range(1, hosts + 1)]
        node = self.node = lab.node("bench-01")
        for address in self.addresses:
            node.exec(("ip", "address", "add", f"{address}/17", "dev", "eth0"))
        node.exec(("sh", "-c", "echo MaxStartups 1000 >> /etc/ssh/sshd_config"))
        node.stop_sshd()
        node.start_sshd()
        self.known_hosts = folder / "known_hosts"
        scan = subprocess.run(
            ("ssh-keyscan", "-t", "ed25519", *self.addresses), capture_output=True, text=True, check=True
        )
        self.known_hosts.write_text(scan.stdout, encoding="utf-8")
        self._write_files()

    def _write_files(self) -> None:
        args = f"-o UserKnownHostsFile={self.known_hosts}"
        hosts = "".join(f"    n{number:02d}: {{ansible_host: {a}}}\n" for number, a in enumerate(self.addresses, 1))
        (self.folder / "fifty.yaml").write_text(
            "all:\n  vars:\n    ansible_user: root\n"
            f"    ansible_ssh_private_key_file: {self.key}\n    ansible_ssh_common_args: {args}\n"
            "    ansible_python_interpreter: /usr/bin/python3\n"
            "    fleet: {gpus: {model: MI300X, count: 8}}\n"
            f"  hosts:\n{hosts}",
            encoding="utf-8",
        )
        tasks = "".join(f'    - ansible.builtin.shell: "{question}"\n' for question in map(_ansible_text, QUESTIONS))
        (self.folder / "play.yaml").write_text(
            f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}", encoding="utf-8"
        )
        hosts_py = [
            (a, {"ssh_user": "root", "ssh_key": str(self.key), "ssh_known_hosts_file": str(self.known_hosts)})
            for a in self.addresses
        ]
        (self.folder / "fifty.py").write_text(f"hosts = {hosts_py!r}\n", encoding="utf-8")
        (self.folder / "four.py").write_text(
            "from fleet.inventory import load\nfrom fleet.transport import Connector, fan_out\n"
            "hosts = tuple(load(['fifty.yaml']).hosts.values())\n"
            f"text = {chr(10).join(QUESTIONS)!r}\n"
            "with Connector() as connector:\n"
            f"    found = fan_out(hosts, lambda host: connector.connect(host).script(text), forks={self.forks})\n"
            "assert all(answer.stdout.count('\\n') >= 5 for answer in found.values())\n",
            encoding="utf-8",
        )
        (self.folder / "ask.py").write_text(
            "from pyinfra import host\nfrom pyinfra.facts.server import Command\n"
            f"for question in {QUESTIONS!r}:\n    answer = host.get_fact(Command, question)\n    if not answer:\n        raise SystemExit(question + ' was not answered')\n    print(host.name, answer)\n",
            encoding="utf-8",
        )

        (self.folder / "operations.py").write_text(
            "from pyinfra.operations import server\n"
            f"for question in {QUESTIONS!r}:\n    server.shell(name=question, commands=[question])\n",
            encoding="utf-8",
        )

    def fleet(self) -> Sample:
        command = (BIN / "fleet", "preflight", "-i", self.folder / "fifty.yaml", "--forks", str(self.forks), "--json")
        return self._measure(command, allowed=(0, 1))

    def four_questions(self) -> Sample:
        """Our transport with the peers' four questions, all in one round trip."""
        return self._measure((sys.executable, self.folder / "four.py"))

    def ansible(self) -> Sample:
        control = self.folder / f"control-{time.monotonic_ns()}"
        env = {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": str(self.forks),
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=3s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(control),
        }
        command = (BIN / "ansible-playbook", "-i", self.folder / "fifty.yaml", self.folder / "play.yaml")
        return self._measure(command, env)

    def pyinfra(self) -> Sample:
        """Four facts, asked by a deploy file."""
        return self._pyinfra("ask.py")

    def pyinfra_operations(self) -> Sample:
        """Four shell operations, which pyinfra runs one after the other, each on all hosts at once."""
        return self._pyinfra("operations.py")

    def _pyinfra(self, deploy: str) -> Sample:
        if not (PYINFRA / "bin/pyinfra").exists():
            subprocess.run((sys.executable, "-m", "venv", PYINFRA), check=True)
            subprocess.run((PYINFRA / "bin/pip", "install", "--quiet", "pyinfra==3.10.0"), check=True)
        command = (PYINFRA / "bin/pyinfra", "--yes", "--parallel", str(self.forks), "fifty.py", deploy)
        return self._measure(command)

    def floor(self) -> Sample:
        """OpenSSH with the probe on standard input, `forks` at once."""
        return self._ssh(PROBE)

    def floor_of_questions(self) -> Sample:
        """The same with the four questions."""
        return self._ssh("\n".join(QUESTIONS))

    def _ssh(self, script: str) -> Sample:
        def ask(address: str) -> None:
            options = ("-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}")
            command = ("ssh", *options, "-i", str(self.key), f"root@{address}", "sh", "-s")
            subprocess.run(command, input=script.encode(), capture_output=True, check=True)

        return self._at_once(ask)

    def nobody(self) -> Sample:
        """The four questions inside the node, `forks` at once, without SSH: no client is faster on this machine."""
        argv = self.node.inside(("sh", "-c", "\n".join(QUESTIONS)))

        def ask(_address: str) -> None:
            subprocess.run(argv, capture_output=True, check=True)

        return self._at_once(ask)

    def _at_once(self, ask: Callable[[str], None]) -> Sample:
        started = time.monotonic()
        with ThreadPoolExecutor(self.forks) as pool:
            list(pool.map(ask, self.addresses))
        return Sample(time.monotonic() - started, 0)

    def _measure(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, allowed: Sequence[int] = (0,)
    ) -> Sample:
        log = self.folder / "peer.log"
        started = time.monotonic()
        environment = {**installed(), **(env or {})}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if os.waitstatus_to_exitcode(status) not in allowed:
            sys.exit(f"{command[0]} failed:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        return Sample(seconds, usage.ru_maxrss / 1024)


def _ansible_text(question: str) -> str:
    """A shell line inside a double-quoted YAML string of a playbook: Go templates must not be read as Jinja."""
    return question.replace("{{", "{{ '{{' }}").replace(
        "{{ '{{' }}.Server.Version}}", "{{ '{{' }}.Server.Version{{ '}}' }}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--forks", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="peers whose names contain one of these words; ours always runs")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    lab = Lab.up("bench", (NodeSpec("bench-01", profile="mi300x-8"),))
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            bench = Bench(lab, Path(folder), options.hosts, options.forks)
            peers: dict[str, Callable[[], Sample]] = {
                "fleet preflight": bench.fleet,
                "fleet, four questions": bench.four_questions,
                "ssh, same probe (floor)": bench.floor,
                "ssh, four questions (floor)": bench.floor_of_questions,
                "four questions, no SSH (floor)": bench.nobody,
                "pyinfra, four questions": bench.pyinfra,
                "pyinfra, four operations": bench.pyinfra_operations,
                "ansible-playbook, four questions": bench.ansible,
            }
            if options.only:
                peers = {
                    name: peer for name, peer in peers.items() if any(word in name for word in ("fleet", *options.only))
                }
            best = {
                name: min((peer() for _ in range(options.rounds)), key=lambda s: s.seconds)
                for name, peer in peers.items()
            }
    finally:
        lab.down()
    report(best, options.hosts, options.forks)


def report(best: Mapping[str, "Sample"], hosts: int, forks: int) -> None:
    ours = best["fleet preflight"].seconds
    four = best["fleet, four questions"].seconds
    print(f"{hosts} hosts, {forks} at once, {os.cpu_count()} cores")
    for name, sample in best.items():
        peer = four if "four" in name else ours
        print(f"{name:34} {sample.seconds:7.2f} s   {sample.seconds / peer:6.2f} x ours   {sample.megabytes:5.0f} MB")


if __name__ == "__main__":
    main()
