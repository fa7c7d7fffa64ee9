"""What a lab has left behind on the machine, by its own names: other labs may live and die meanwhile."""

import json
import subprocess
from pathlib import Path

from fleet.lab.network import alias
from fleet.lab.paths import DATA, RUN


def traces(name: str, inventories: Path) -> list[str]:
    """One line for everything that can still be found of the lab; empty when it is gone."""
    rules = _output("iptables-save").splitlines()
    links = [link["ifname"] for link in json.loads(_output("ip", "-j", "link")) if link.get("ifalias") == alias(name)]
    return [
        *(f"link {link}" for link in links),
        *(f"namespace {line}" for line in _output("ip", "netns").splitlines() if name in line),
        *(f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line),
        *(f"process {line}" for line in _processes(name)),
        *(f"rule {line}" for line in rules if any(link in line for link in links)),
        *(f"loop {file}" for file in Path("/sys/block").glob("loop*/loop/backing_file") if name in file.read_text()),
        *(f"control group {path}" for path in Path("/sys/fs/cgroup").rglob(name)),
        *(f"file {path}" for path in (RUN, DATA, inventories) for path in path.glob(f"{name}*")),
    ]


def _processes(name: str) -> list[str]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_text().replace("\0", " ")
            group = (directory / "cgroup").read_text()
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (f"fleet-lab/{name}" in words or f"/{name}/" in group):
            found.append(f"{directory.name} {words}")
    return found


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
