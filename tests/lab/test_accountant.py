"""VRAM and KFD's process entries follow the processes that hold /dev/kfd, on the node and in its containers."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from fleet.lab import processes
from fleet.lab.accountant import CONFIG
from fleet.lab.gpu_drm import IDLE_VRAM
from fleet.lab.lab import Lab
from fleet.lab.node import Node
from fleet.lab.topology import NodeSpec

pytestmark = pytest.mark.lab

TAKEN = int(206_141_652_992 * 0.9) + IDLE_VRAM
HOLD = "exec 5</dev/kfd 6</dev/dri/renderD136; exec sleep 100"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name, specs = f"vram{os.getpid()}", (NodeSpec("n1", profile="mi300x-8"),)
    shell = "mkdir -p /tmp/i/bin && cp /bin/busybox /tmp/i/bin/sh && ln -sf sh /tmp/i/bin/sleep"
    try:
        lab = Lab.up(name, specs, inventories=tmp_path_factory.mktemp("inventories"))
        lab.node("n1").exec(("sh", "-c", f"{shell} && tar -C /tmp/i -c . | docker import - tiny"))
        yield lab
    finally:
        Lab.remove(name)


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.node("n1")


def used(node: Node, minor: int) -> int:
    return int((node.root / f"sys/class/drm/renderD{minor}/device/mem_info_vram_used").read_text())


def holders(node: Node) -> list[str]:
    return sorted(entry.name for entry in (node.root / "sys/class/kfd/kfd/proc").iterdir())


def wait(ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.02)
    return ready()


@pytest.fixture
def hold(node: Node) -> Iterator[Callable[..., str]]:
    """Start holders on the node, which end with the test at the latest; each call gives the pid there."""
    started = []

    def start(script: str = HOLD) -> str:
        mark = node.root / "run/holder"
        node.exec(("setsid", "--fork", "sh", "-c", f"echo $$ >/run/holder; exec >/dev/null 2>&1; {script}"))
        assert wait(lambda: mark.exists() and mark.read_text() != "")
        started.append(mark.read_text().strip())
        mark.unlink()
        return started[-1]

    yield start
    node.exec(("kill", *started), check=False)


def test_a_process_takes_the_vram_of_the_gpu_it_opened_until_it_ends(node: Node, hold: Callable[..., str]) -> None:
    pid = hold()
    assert wait(lambda: used(node, 136) == TAKEN)
    assert holders(node) == [pid]
    assert used(node, 128) == IDLE_VRAM
    held = [int(file.read_text()) for file in (node.root / f"sys/class/kfd/kfd/proc/{pid}").glob("vram_*")]
    assert sorted(held) == [0] * 7 + [TAKEN - IDLE_VRAM]
    node.exec(("kill", pid))
    assert wait(lambda: used(node, 136) == IDLE_VRAM and holders(node) == [])


def test_a_process_without_a_render_node_takes_every_gpu_it_can_see(node: Node, hold: Callable[..., str]) -> None:
    pid = hold("exec 5</dev/kfd; exec sleep 100")
    assert wait(lambda: all(used(node, minor) == TAKEN for minor in range(128, 192, 8)))
    node.exec(("kill", pid))
    assert wait(lambda: all(used(node, minor) == IDLE_VRAM for minor in range(128, 192, 8)))


def test_hip_visible_devices_limits_what_is_taken(node: Node, hold: Callable[..., str]) -> None:
    pid = hold("exec 5</dev/kfd; HIP_VISIBLE_DEVICES=2 exec sleep 100")
    assert wait(lambda: used(node, 144) == TAKEN)
    assert used(node, 128) == IDLE_VRAM
    node.exec(("kill", pid))
    assert wait(lambda: used(node, 144) == IDLE_VRAM)


def test_a_container_is_seen_by_its_pid_on_the_node(node: Node) -> None:
    devices = ("--device=/dev/kfd", "--device=/dev/dri/renderD136")
    script = ("sh", "-c", "exec 5</dev/kfd; exec sleep 100")
    node.exec(("docker", "run", "-d", "--name=holder", "--network=none", *devices, "tiny", *script))
    assert wait(lambda: used(node, 136) == TAKEN)
    assert used(node, 128) == IDLE_VRAM
    assert holders(node) == [node.exec(("docker", "inspect", "-f", "{{.State.Pid}}", "holder")).stdout.strip()]
    node.exec(("docker", "rm", "-f", "holder"))
    assert wait(lambda: used(node, 136) == IDLE_VRAM and holders(node) == [])


def test_vram_can_be_made_slow_to_return(node: Node, hold: Callable[..., str]) -> None:
    settings = node.root / CONFIG
    settings.write_text(json.dumps({"release_seconds": 1.5, "share": 0.5}))
    pid = hold()
    assert wait(lambda: used(node, 136) > 90 * 2**30)
    node.exec(("kill", pid))
    assert wait(lambda: holders(node) == [])
    assert used(node, 136) > 90 * 2**30
    assert wait(lambda: used(node, 136) == IDLE_VRAM)
    settings.unlink()


def test_a_card_in_both_places_says_the_same(node: Node, hold: Callable[..., str]) -> None:
    pid = hold()
    places = ("sys/class/drm/card9/device", "sys/module/amdgpu/drivers/pci:amdgpu/0000:27:00.0")
    for place in places:
        assert wait(lambda: int((node.root / place / "mem_info_vram_used").read_text()) == TAKEN)  # noqa: B023  at once
    node.exec(("kill", pid))
    assert wait(lambda: used(node, 136) == IDLE_VRAM)


def test_it_ends_with_its_node(lab: Lab, node: Node) -> None:
    accountant = processes.recall(node.paths.accountant)
    assert accountant
    os.kill(node.pid, signal.SIGKILL)
    assert wait(lambda: not processes.recall(node.paths.accountant))
    node.start()
    assert processes.recall(node.paths.accountant) not in {0, accountant}
