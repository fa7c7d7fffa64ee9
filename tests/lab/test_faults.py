"""Every fault shows itself to plain commands on the node, and is gone after mending."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.lab import faults
from fleet.lab.lab import Lab
from fleet.lab.node import Node
from fleet.lab.topology import NodeSpec

pytestmark = pytest.mark.lab

GPU, PLAIN = "n1", "n2"
SPECS = (NodeSpec(GPU, profile="mi300x-8"), NodeSpec(PLAIN, profile="mi250-4", engine=False))
# What a look at the node prints when it is whole, and something that is in the answer only when it is broken so.
HARDWARE = {
    "kfd-missing": ("test -c /dev/kfd || echo none", "none"),
    "kfd-0600": ("stat -c %a /dev/kfd", "600"),
    "amdgpu-absent": ("test -d /sys/module/amdgpu || test -d /sys/class/kfd || echo none", "none"),
    "driver-in-tree": ("cat /sys/module/amdgpu/initstate /sys/module/amdgpu/version || echo none", "live\nnone"),
    "driver-pending-reboot": ("modinfo -F version amdgpu", "6.19.14.31400000"),
    "gpu-missing": ("ls /sys/class/kfd/kfd/topology/nodes | wc -l; ls /dev/dri/render* | wc -l", "9\n7"),
    "gfx-wrong": ("grep -hc 'gfx_target_version 90010' /sys/class/kfd/kfd/topology/nodes/9/properties", "1"),
    "partition-changed": ("cat /sys/class/drm/renderD184/device/current_compute_partition", "CPX"),
    "ras-ue": ("cat /sys/class/drm/renderD128/device/ras/umc_err_count; dmesg", "ue: 3"),
    "numa-balancing-on": ("cat /proc/sys/kernel/numa_balancing", "1"),
}
FILES = (
    "find /sys/class/kfd /sys/class/drm /sys/module/amdgpu /usr/local /etc/ssh -type f ! -name '.*' | sort | xargs md5sum;"
    "find /dev -type c | sort | xargs stat -c '%n %a %u %g'"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = f"faults{os.getpid()}"
    try:
        yield Lab.up(name, SPECS, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    yield lab.node(GPU)
    lab.mend(GPU)


def ask(node: Node, script: str) -> str:
    return node.exec(("sh", "-c", script), check=False).stdout.strip()


def wait(ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.05)
    return ready()


def ssh(lab: Lab, name: str) -> subprocess.CompletedProcess[str]:
    argv = lab.ssh_argv(name, "echo", "hello")
    fast = (argv[0], "-o", "ConnectTimeout=2", "-o", "BatchMode=yes", *argv[1:])
    return subprocess.run(fast, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("fault", HARDWARE)
def test_a_hardware_fault_shows_and_mends_without_a_trace(lab: Lab, node: Node, fault: str) -> None:
    look, broken = HARDWARE[fault]
    before, whole = ask(node, look), ask(node, FILES)
    assert broken not in before
    lab.break_(fault, GPU)
    assert broken in ask(node, look)
    lab.mend(GPU)
    assert ask(node, look) == before
    assert ask(node, FILES) == whole


def test_every_fault_is_tried_here_or_below() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{name}' in text for name in faults.FAULTS)


def test_modprobe_brings_an_absent_driver_back(lab: Lab, node: Node) -> None:
    whole = ask(node, FILES)
    lab.break_("amdgpu-absent", GPU)
    assert ask(node, "modprobe amdgpu && cat /sys/module/amdgpu/version") == "6.16.13"
    assert ask(node, FILES) == whole


def test_a_busy_gpu_has_a_process_and_less_free_vram(lab: Lab, node: Node) -> None:
    used = "cat /sys/class/drm/renderD128/device/mem_info_vram_used"
    idle = int(ask(node, used))
    lab.break_("gpu-busy", GPU)
    assert wait(lambda: int(ask(node, used)) > 100 * 2**30)
    pid = ask(node, "ls /sys/class/kfd/kfd/proc")
    assert ask(node, f"cat /proc/{pid}/cmdline").startswith("finetune")
    lab.mend(GPU)
    assert wait(lambda: int(ask(node, used)) == idle)
    assert ask(node, "ls /sys/class/kfd/kfd/proc") == ""


def test_a_leak_leaves_memory_that_no_process_holds(lab: Lab, node: Node) -> None:
    used = "cat /sys/class/drm/renderD128/device/mem_info_vram_used"
    whole, idle = ask(node, FILES), int(ask(node, used))
    lab.break_("gpu-busy", GPU)
    assert wait(lambda: int(ask(node, used)) > 100 * 2**30)
    lab.break_("vram-leak:share=0.5", GPU)
    time.sleep(0.5)  # the accountant has to know before the process ends
    ask(node, "kill $(cat /run/finetune.pid)")
    assert wait(lambda: ask(node, "ls /sys/class/kfd/kfd/proc") == "")
    assert wait(lambda: 90 * 2**30 < int(ask(node, used)) < 100 * 2**30)
    lab.mend(GPU)
    assert wait(lambda: int(ask(node, used)) == idle)
    assert ask(node, FILES) == whole


def test_a_stopped_docker_does_not_answer(lab: Lab, node: Node) -> None:
    lab.break_("docker-stopped", GPU)
    assert node.exec(("docker", "ps"), check=False).returncode != 0
    lab.mend(GPU)
    assert node.exec(("docker", "ps"), check=False).returncode == 0


def test_a_full_docker_disk_refuses_an_image(lab: Lab, node: Node) -> None:
    fetch = "head -c 30000000 /dev/urandom >/tmp/layer && tar -C /tmp -cf - layer | docker import - big 2>&1"
    lab.break_("docker-disk-full", GPU)
    assert "no space left on device" in ask(node, fetch)
    assert node.exec(("docker", "info"), check=False).returncode == 0
    lab.mend(GPU)
    assert "sha256:" in ask(node, fetch)
    ask(node, "docker image rm big; rm /tmp/layer")


def test_a_changed_host_key_is_refused_by_ssh(lab: Lab, node: Node) -> None:
    assert ssh(lab, GPU).stdout == "hello\n"
    lab.break_("hostkey-changed", GPU)
    assert "Host key verification failed" in ssh(lab, GPU).stderr
    lab.mend(GPU)
    assert ssh(lab, GPU).stdout == "hello\n"


def test_a_stopped_sshd_refuses_connections(lab: Lab, node: Node) -> None:
    lab.break_("sshd-down", GPU)
    assert "Connection refused" in ssh(lab, GPU).stderr
    lab.mend(GPU)
    assert ssh(lab, GPU).stdout == "hello\n"


def test_a_cut_link_carries_nothing(lab: Lab, node: Node) -> None:
    lab.break_("link-cut", GPU)
    assert ssh(lab, GPU).returncode == 255
    lab.mend(GPU)
    assert ssh(lab, GPU).stdout == "hello\n"


def test_a_link_is_cut_in_the_middle_of_a_transfer(lab: Lab, node: Node) -> None:
    lab.break_("link-cut:after=5MB", GPU)
    with Path("/dev/zero").open("rb") as zeros:
        sent = subprocess.Popen(lab.ssh_argv(GPU, "cat", ">/tmp/received"), stdin=zeros, stderr=subprocess.DEVNULL)
    try:
        assert wait(lambda: ask(node, "cat /sys/class/net/eth0/carrier") == "0")
    finally:
        sent.kill()
        sent.wait()
    assert int(ask(node, "stat -c %s /tmp/received")) > 1_000_000
    ask(node, "rm /tmp/received")
    lab.mend(GPU)
    assert ssh(lab, GPU).stdout == "hello\n"


def test_a_link_is_cut_after_some_seconds(lab: Lab, node: Node) -> None:
    lab.break_("link-cut:after=0.2s", GPU)
    assert wait(lambda: ask(node, "cat /sys/class/net/eth0/carrier") == "0")


def test_a_reboot_gives_a_new_boot_id_and_heals_what_a_boot_heals(lab: Lab, node: Node) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = ask(node, boot_id)
    lab.break_("gpu-missing", GPU)
    lab.break_("numa-balancing-on", GPU)
    lab.break_("rebooted", GPU)
    assert ask(node, boot_id) != before
    assert ask(node, "cat /proc/sys/kernel/numa_balancing") == "0"
    assert ask(node, "ls /dev/dri/render* | wc -l") == "7"
    assert faults.recorded(lab)[GPU] == ("gpu-missing", "rebooted")
    lab.mend(GPU)
    assert ask(node, "ls /dev/dri/render* | wc -l") == "8"


def test_a_wrong_clock_is_an_hour_fast(lab: Lab, node: Node) -> None:
    lab.break_("clock-off", GPU)
    assert abs(int(ask(node, "date +%s")) - time.time() - 3600) < 60
    lab.mend(GPU)
    assert abs(int(ask(node, "date +%s")) - time.time()) < 60


def test_faults_add_up_are_recorded_and_mended_together_twice(lab: Lab, node: Node) -> None:
    whole = ask(node, FILES)
    for fault in ("gpu-missing", "kfd-0600", "gpu-missing", "numa-balancing-on"):
        lab.break_(fault, GPU)
    assert ask(node, "stat -c %a /dev/kfd; ls /dev/dri/render* | wc -l") == "600\n7"
    assert json.loads((lab.paths.data / "faults.json").read_text()) == {
        GPU: ["gpu-missing", "kfd-0600", "numa-balancing-on"]
    }
    again = Lab.find(lab.name)
    again.mend(GPU)
    again.mend(GPU)
    assert ask(node, FILES) == whole
    assert faults.recorded(lab) == {}


@pytest.mark.parametrize(
    ("fault", "host", "message"),
    [
        ("coffee-spilt", GPU, "there is no fault"),
        ("kfd-0600", "n9", "no node"),
        ("link-cut:when=now", GPU, "no option"),
        ("link-cut:after=soon", GPU, "neither seconds nor bytes"),
        ("partition-changed", PLAIN, "cannot be partitioned"),
        ("docker-stopped", PLAIN, "no Docker engine"),
    ],
)
def test_what_cannot_be_broken_is_refused_and_not_recorded(lab: Lab, fault: str, host: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lab.break_(fault, host)
    assert faults.recorded(lab) == {}


def test_raising_the_lab_again_lets_go_of_every_fault(lab: Lab, node: Node) -> None:
    whole = ask(node, FILES)
    for fault in ("hostkey-changed", "gpu-missing", "sshd-down", "gpu-busy"):
        lab.break_(fault, GPU)
    Lab.up(lab.name, SPECS, inventories=lab.inventory.parent)
    assert faults.recorded(lab) == {}
    assert ask(node, FILES) == whole
    assert ssh(lab, GPU).stdout == "hello\n"
