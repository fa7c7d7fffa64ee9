"""The lab's life: up, broken, repaired, rebooted, down, and nothing left behind."""

import base64
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.lab import Lab, base_image
from fleet.lab import cgroups as lab_cgroups
from fleet.lab.inventory import SOURCE_REF
from tests.lab.conftest import BASTION, MI250, MI300X, OFFLINE, REGISTRY, Boot, lab_name
from tests.lab.images import import_busybox
from tests.lab.rolls import within
from tests.lab.traces import traces

pytestmark = pytest.mark.lab


def ssh(lab: Lab, node: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.ssh_argv(node, command), capture_output=True, text=True, check=False, timeout=30)


def routes() -> str:
    return subprocess.run(("ip", "route"), capture_output=True, text=True, check=True).stdout


def kill_everything(lab: Lab) -> None:
    lab_cgroups.kill(lab.paths.cgroup)
    for file in lab.paths.run.glob("*.accountant.pid"):
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)


# The default lab


def test_every_daemon_of_the_default_lab_answers(lab: Lab) -> None:
    assert {status.name: status.services for status in lab.status() if not status.ok} == {}


def test_the_default_lab_has_two_engine_generations_and_both_image_stores(lab: Lab) -> None:
    engines = {status.name: (status.engine[:5], status.store) for status in lab.status() if status.engine}
    assert engines == {
        "builder": ("26.1.", "overlay2"),
        "mi300x-01": ("20.10", "overlay2"),
        "mi250-01": ("20.10", "overlay2"),
        "mi300x-cpx-01": ("26.1.", "containerd"),
        "mi300x-off-01": ("20.10", "overlay2"),
    }


@pytest.mark.parametrize(
    ("node", "user", "sudo", "docker"),
    [
        ("builder", "root", True, True),
        ("registry", "root", True, False),
        ("bastion", "jump", False, False),
        ("mi300x-01", "root", True, True),
        ("mi250-01", "ops", True, False),
        ("mi300x-cpx-01", "dev", False, True),
        ("mi300x-off-01", "root", True, True),
    ],
)
def test_each_node_lets_its_user_in_with_just_the_rights_it_stands_for(
    lab: Lab, node: str, user: str, sudo: bool, docker: bool
) -> None:
    asked = ssh(lab, node, "id -un; hostname; sudo -n true && echo sudo; docker info >/dev/null && echo docker")
    wanted = [user, node, *(["sudo"] if sudo else []), *(["docker"] if docker else [])]
    assert asked.stdout.splitlines() == wanted, asked.stderr


def test_no_node_has_a_way_out(lab: Lab) -> None:
    for node in lab.nodes:
        assert "default" not in node.exec(("ip", "route")).stdout, node.name


def test_the_offline_node_reaches_no_registry_and_the_controller_no_offline_node(lab: Lab) -> None:
    offline = lab.node("mi300x-off-01")
    registry = lab.registry.partition(":")[0]
    assert offline.exec(("ip", "route", "get", registry), check=False).returncode != 0
    with pytest.raises(OSError, match=r"unreachable|No route"):
        socket.create_connection((lab.topology.address(offline.name), 22), timeout=1)


def test_a_node_shows_nothing_of_the_machine_it_runs_on(lab: Lab) -> None:
    node = lab.node("mi300x-01")
    assert node.exec(("ls", "-A", "/root", "/home", "/opt", "/var/lib/fleet-lab")).stdout.count("work") == 0
    assert not (node.root / "work").exists()
    assert node.exec(("ps", "-e", "-o", "pid=")).stdout.split()[0] == "1"
    assert len(node.exec(("ps", "-e", "-o", "pid=")).stdout.split()) < 30


def test_the_registry_has_a_certificate_of_the_labs_ca_and_wants_a_password(lab: Lab) -> None:
    context = ssl.create_default_context(cafile=str(lab.paths.ca))
    user, password = lab.paths.registry_user.read_text().strip(), lab.paths.registry_password.read_text().strip()
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    answers = {}
    for name, headers in (("without", {}), ("with", {"Authorization": f"Basic {token}"})):
        connection = http.client.HTTPSConnection(lab.registry, context=context, timeout=10)
        connection.request("GET", "/v2/", headers=headers)
        answers[name] = connection.getresponse().status
        connection.close()
    assert answers == {"without": 401, "with": 200}


def test_the_builder_builds_what_needs_buildkit_and_pushes_it(lab: Lab) -> None:
    builder = lab.node("builder")
    import_busybox(builder)
    context = builder.root / "tmp/context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(
        "FROM box\nRUN --mount=type=cache,target=/cache --network=none <<END\n/bin/echo built > /proof\nEND\n"
    )
    name = f"{lab.registry}/proof:1"
    builder.exec(("docker", "build", "-t", name, "/tmp/context"))
    assert builder.exec(("docker", "run", "--rm", name, "/bin/cat", "/proof")).stdout == "built\n"
    certificates = builder.root / "etc/docker/certs.d" / lab.registry
    certificates.mkdir(parents=True, exist_ok=True)
    (certificates / "ca.crt").write_text(lab.paths.ca.read_text())
    login = ("docker", "login", "-u", lab.paths.registry_user.read_text().strip(), "--password-stdin", lab.registry)
    builder.exec(login, stdin=lab.paths.registry_password.read_text().strip())
    assert "digest: sha256:" in builder.exec(("docker", "push", name)).stdout


def test_the_stand_ins_source_and_base_image_are_there_before_anybody_asks(lab: Lab) -> None:
    tags = subprocess.run(("git", "-C", lab.paths.source, "tag"), capture_output=True, text=True, check=True).stdout
    assert SOURCE_REF in tags.split()
    found = lab.node("builder").exec(("docker", "image", "inspect", "--format", "{{.Os}}", base_image.NAME))
    assert found.stdout == "linux\n"


def test_a_reboot_brings_a_new_boot_id_and_the_container_back_and_keeps_the_disk(lab: Lab) -> None:
    node = lab.node("mi300x-cpx-01")
    import_busybox(node)
    node.exec(("sh", "-c", "echo kept > /var/tmp/kept"))
    options = ("--restart", "unless-stopped", "--network", "host", "--device", "/dev/kfd")
    node.exec(("docker", "run", "-d", "--name", "stays", *options, "box", "/bin/sleep", "10000"))
    before = node.exec(("cat", "/proc/sys/kernel/random/boot_id")).stdout
    node.reboot()
    assert node.exec(("cat", "/proc/sys/kernel/random/boot_id")).stdout != before
    assert node.exec(("cat", "/var/tmp/kept")).stdout == "kept\n"
    assert ssh(lab, node.name, "docker inspect -f '{{.State.Running}}' stays").stdout == "true\n"
    node.exec(("docker", "rm", "-f", "stays"))


def test_engine_and_sshd_stop_and_start(lab: Lab) -> None:
    node = lab.node("mi250-01")
    node.stop_engine()
    node.stop_sshd()
    assert node.status().services == {"sshd": False, "dockerd": False}
    assert ssh(lab, node.name, "true").returncode == 255
    node.start_sshd()
    node.start_engine()
    assert node.status().ok
    assert ssh(lab, node.name, "sudo docker info >/dev/null && echo fine").stdout == "fine\n"


def test_a_cable_pulled_out_silences_a_node_until_it_is_back(lab: Lab) -> None:
    node = lab.node("mi300x-01")
    address = (lab.topology.address(node.name), 22)
    node.link_down()
    try:
        with pytest.raises(OSError, match=r"timed out|No route"):
            socket.create_connection(address, timeout=1)
    finally:
        node.link_up()
    socket.create_connection(address, timeout=10).close()


def test_a_wrong_clock_is_wrong_for_date_only_until_it_is_set_right(lab: Lab) -> None:
    node = lab.node("mi300x-01")
    node.set_clock(7200)
    assert abs(int(ssh(lab, node.name, "date +%s").stdout) - time.time() - 7200) < 60
    node.set_clock(0)
    assert abs(int(ssh(lab, node.name, "date +%s").stdout) - time.time()) < 60


def test_up_again_changes_nothing(lab: Lab) -> None:
    before = {node.name: node.pid for node in lab.nodes}, lab.paths.known_hosts.read_text(), lab.inventory.read_text()
    again = Lab.up(lab.name, inventories=lab.inventory.parent)
    after = {node.name: node.pid for node in again.nodes}, lab.paths.known_hosts.read_text(), lab.inventory.read_text()
    assert again == lab
    assert after == before


def test_a_fault_and_its_mending_go_through_the_lab(lab: Lab) -> None:
    lab.break_("docker-stopped", "mi300x-01")
    assert not lab.node("mi300x-01").status().services["dockerd"]
    lab.mend("mi300x-01")
    assert lab.node("mi300x-01").status().ok


# Repair and removal


def test_up_repairs_a_half_dead_lab(boot: Boot) -> None:
    lab = boot("half", BASTION, MI300X, OFFLINE)
    (lab.node("bastion").root / "var/tmp/kept").write_text("kept")
    os.kill(lab.node("bastion").pid, signal.SIGKILL)
    lab.node("mi300x-01").stop_sshd()
    lab.break_("docker-stopped", "mi300x-off-01")
    subprocess.run(("ip", "link", "delete", lab.topology.main_bridge), check=True)
    lab.inventory.unlink()
    again = boot("half", BASTION, MI300X, OFFLINE)
    assert [status.name for status in again.status() if not status.ok] == []
    assert (again.node("bastion").root / "var/tmp/kept").read_text() == "kept"
    assert again.inventory.exists()
    for node in again.nodes:
        assert ssh(again, node.name, "hostname").stdout.strip() == node.name


def test_up_with_more_nodes_adds_them(boot: Boot) -> None:
    first = boot("more", MI300X)
    pid = first.node("mi300x-01").pid
    both = boot("more", MI300X, MI250)
    assert both.node("mi300x-01").pid == pid
    assert [status.ok for status in both.status()] == [True, True]


def test_down_leaves_nothing_behind(boot: Boot) -> None:
    lab = boot("gone", BASTION, REGISTRY, MI300X)
    assert len(traces(lab.name, lab.inventory.parent)) > 10
    assert lab.topology.offline_network in routes()
    lab.down()
    assert traces(lab.name, lab.inventory.parent) == []
    assert lab.topology.offline_network not in routes()
    with pytest.raises(FleetError, match="there is no lab"):
        Lab.find(lab.name)
    lab.down()  # and a second time does no harm


def test_down_leaves_nothing_behind_when_everything_was_killed(boot: Boot) -> None:
    lab = boot("kill", BASTION, MI300X)
    kill_everything(lab)
    lab.down()
    assert traces(lab.name, lab.inventory.parent) == []


def test_up_raises_a_lab_again_whose_every_process_was_killed(boot: Boot) -> None:
    lab = boot("phoenix", MI300X)
    kill_everything(lab)
    assert within(30, lambda: not lab.node("mi300x-01").running)  # the machine may be slow to reap it
    assert boot("phoenix", MI300X).status()[0].ok


def test_two_labs_live_side_by_side(boot: Boot) -> None:
    with ThreadPoolExecutor() as pool:  # at the same moment, to see that they do not take one number
        one, two = pool.map(lambda word: boot(word, REGISTRY, MI300X), ("one", "two"))
    assert one.topology.index != two.topology.index
    assert one.registry != two.registry
    for lab in (one, two):
        assert ssh(lab, "mi300x-01", "hostname").stdout == "mi300x-01\n"
    assert one.node("mi300x-01").exec(("ip", "route", "get", two.registry.partition(":")[0]), check=False).returncode
    one.down()
    assert traces(one.name, one.inventory.parent) == []
    assert all(status.ok for status in two.status())


UP = """
import sys
from pathlib import Path
from fleet.lab import Lab
from tests.lab.conftest import BASTION, MI300X
def say(line):
    print(line, flush=True)
Lab.up(sys.argv[1], (BASTION, MI300X), inventories=Path(sys.argv[2]), say=say)
"""


def start_up(name: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-c", UP, name, str(directory)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )


@pytest.mark.parametrize("phase", ["keys", "network", "nodes on disk", "boot"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_up_that_is_stopped_in_any_phase_leaves_nothing_or_what_down_removes(
    tmp_path: Path, phase: str, how: signal.Signals
) -> None:
    name = lab_name("stop")
    process = start_up(name, tmp_path)
    assert process.stdout is not None
    before = {"keys": "root", "network": "keys", "nodes on disk": "network", "boot": "nodes"}[phase]
    for line in process.stdout:
        if line.startswith(before):
            break
    time.sleep(0.2 if phase == "boot" else 0.02)
    os.killpg(process.pid, how)
    process.wait(timeout=60)
    if how is signal.SIGKILL:
        Lab.remove(name)
    assert process.returncode != 0
    assert traces(name, tmp_path) == []
