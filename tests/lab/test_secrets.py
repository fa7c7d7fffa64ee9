"""Secrets of every kind, planted and then looked for: in files, process lists, logs, journals, audits and containers."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.lab.node import Node
from tests.lab.cli import Controller
from tests.lab.conftest import MI250, MI300X, REGISTRY
from tests.lab.rolls import Fleet, fleet_of
from tests.proc import command_lines

pytestmark = pytest.mark.lab

HOSTS = (MI300X.name, MI250.name)
KEY = "sk-planted-service-key-7f3a"
SUDO = "planted-sudo-password-9c1e"
# Where secrets have to be, or nothing would work: the file that a container mounts, and the host's own password.
ALLOWED = ("/secrets/",)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_of("scrt", tmp_path_factory.mktemp("secrets"), REGISTRY, MI300X, MI250) as made:
        made.sh(MI250.name, f"echo 'ops:{SUDO}' | chpasswd; echo 'ops ALL=(ALL:ALL) ALL' >/etc/sudoers.d/ops")
        yield made


@pytest.fixture(scope="module")
def planted(fleet: Fleet) -> dict[str, str]:
    """Each secret by what it is. The registry's is the lab's own, which real pulls and pushes need."""
    return {"service": KEY, "sudo": SUDO, "registry": fleet.lab.paths.registry_password.read_text().strip()}


def wants(fleet: Fleet, release: str, **env: str) -> Controller:
    over = {"mi250": {"hosts": {MI250.name: {"ansible_become_password": SUDO}}}}
    return fleet.wants(release, over=over, env=env, secrets={"VLLM_API_KEY": {"env": "PLANTED_KEY"}})


@contextmanager
def watched(secrets: list[str]) -> Iterator[list[str]]:
    """Every process list of the machine, which the nodes' processes are in too, read over and over."""
    seen: list[str] = []
    stopped = threading.Event()
    needles = [one.encode() for one in secrets]

    def look() -> None:
        while not stopped.is_set():
            for _, words in command_lines():
                if any(needle in words for needle in needles):
                    seen.append(words.replace(b"\0", b" ").decode(errors="replace"))
            stopped.wait(0.02)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield seen
    stopped.set()
    thread.join()


def files_with(root: Path, secrets: list[str]) -> list[str]:
    words = [word for one in secrets for word in ("-e", one)]
    done = subprocess.run(("grep", "-rlF", *words, str(root)), capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def on_node(node: Node, secrets: list[str]) -> list[str]:
    """Files, what the engine tells of containers and images, their logs."""
    words = "\n".join(secrets)
    places = "/tmp /var/tmp /run /var/log /var/lib/fleet /etc /root /home /srv /opt /var/lib/docker/containers /var/lib/docker/volumes"
    found = node.exec(("sh", "-c", f"grep -rlF -f - {places} 2>/dev/null || true"), stdin=words).stdout.splitlines()
    for script in (
        "docker ps -aq | xargs -r docker inspect",
        "docker ps -aq | xargs -rn1 docker logs 2>&1",
        "docker images -q | xargs -r docker inspect",
    ):
        said = node.exec(("sh", "-c", script)).stdout
        found += [script for one in secrets if one in said]
    return [one for one in found if not any(part in one for part in ALLOWED)]


@pytest.mark.parametrize("outcome", ["goes well", "fails"])
def test_no_secret_is_found_anywhere_after_a_roll_that(
    fleet: Fleet, planted: dict[str, str], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    secrets = list(planted.values())
    for host in HOSTS:
        fleet.prune(host)
    fails = {"STANDIN_FAIL": "no_hip_gpus"} if outcome == "fails" else {}
    controller = wants(fleet, "b" if fails else "a", **fails)
    with watched(secrets) as seen:
        done = controller.run("deploy", "--verbose")
        others = [controller.run(*words) for words in (("audit",), ("status",), ("plan", "--diff"))]
    assert done.returncode == bool(fails), done.stderr
    assert all(fleet.answers(host) for host in HOSTS)
    assert seen == []
    for one in (done, *others):
        assert not [word for word in secrets if word in one.stdout + one.stderr]
    assert files_with(fleet.controller.directory, secrets) == []
    assert list(fleet.controller.directory.glob(".fleet/runs/*/journal.jsonl"))
    for host in HOSTS:
        assert on_node(fleet.lab.node(host), secrets) == []
    audit = fleet.controller.run("audit", "--json")
    assert '"serve"' in audit.stdout
