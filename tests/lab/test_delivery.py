"""How images travel on a real lab: which way, how many bytes, and what is said and left when the way is broken.

The tests of this module are one story and run in their order: the first brings the image everywhere, each later one takes
it from a host, breaks something, deploys, mends, and has it brought; after the last of them every host serves again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.lab import Lab, NodeSpec, faults
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, MI300X, OFFLINE, REGISTRY, lab_name
from tests.lab.rolls import within

pytestmark = pytest.mark.lab

BUILDER = NodeSpec("builder", role="builder", base="trixie")
DEV = NodeSpec("mi300x-cpx-01", base="trixie", profile="mi300x-8-cpx", user="dev", containerd_store=True)
SERVING = (MI300X.name, DEV.name, OFFLINE.name)
ONLINE, SIDELOADED = MI300X.name, OFFLINE.name
DISTRIBUTE = ("deploy", "--stages", "image,distribute", "--limit")
# `fleet` with a lease of 30 s in place of 60, which tests/lab/test_crash.py waits for.
SHORT_LEASE = (sys.executable, "-P", str(Path(__file__).with_name("crash_driver.py")), "never", "", "", "30", "")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("way")
    try:
        specs = (BUILDER, REGISTRY, BASTION, MI300X, DEV, OFFLINE)
        yield Lab.up(name, specs, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture(scope="module")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"), (lab.inventory,))


def on(lab: Lab, host: str, script: str) -> str:
    return lab.node(host).exec(("sh", "-c", script)).stdout.strip()


def take_away(lab: Lab, host: str) -> None:
    """The host as if it had never had the image."""
    on(
        lab,
        host,
        "docker rm -f chat-0 chat-0-previous; docker rmi -f $(docker images -q); docker image prune -af; true",
    )


def images_on(lab: Lab, host: str) -> str:
    return on(lab, host, "docker images -q")


def brought(lab: Lab, controller: Controller, *hosts: str) -> None:
    """The image comes to these hosts as if nothing had been. That they serve it then is shown once, by `settled`."""
    code, document = controller.ask(*DISTRIBUTE, ",".join(hosts))
    assert (code, document["failed"]) == (0, {}), document["failed"]
    assert all(images_on(lab, host) for host in hosts)


def settled(controller: Controller) -> None:
    """A plain deploy ends well, and the one after it changes nothing."""
    code, document = controller.ask("deploy")
    assert (code, document["failed"]) == (0, {}), document["failed"]
    code, document = controller.ask("deploy")
    assert {name: host["changed"] for name, host in document["hosts"].items()} == dict.fromkeys(SERVING, 0)


def refused(controller: Controller, host: str) -> dict[str, str]:
    """A deploy to one host fails there, without a traceback; its message and hint."""
    done = controller.run("deploy", "--limit", host, "--json", timeout=400)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    failure: dict[str, str] = json.loads(done.stdout)["failed"][host]
    assert failure["hint"]
    return failure


def test_the_builder_pushes_straight_and_the_plan_says_so(lab: Lab, controller: Controller) -> None:
    planned = controller.run("deploy", "--check")
    assert f"builder would push it straight to {lab.registry}" in planned.stdout
    done = controller.run("deploy")
    assert done.returncode == 0, done.stderr
    assert f"straight to {lab.registry}" in done.stdout
    assert f"{ONLINE}: pull {lab.registry}/vllm-rocm: done" in done.stderr
    assert f"{SIDELOADED}: sideload vllm-rocm:" in done.stderr
    assert "through bastion jump@" in done.stderr
    assert "builder: push vllm-rocm:" in done.stderr


def test_the_builder_keeps_neither_credentials_nor_layouts(lab: Lab) -> None:
    password = Path(lab.paths.registry_password).read_text().strip()
    kept = on(
        lab,
        "builder",
        f"ls -A /var/tmp/fleet; ls -d /tmp/fleet-push-* 2>/dev/null; grep -rlsF {password} /root /tmp /var/tmp /etc; true",
    )
    assert kept == ""


def test_what_was_pushed_straight_is_the_same_everywhere(lab: Lab, controller: Controller) -> None:
    settled(controller)
    _, document = controller.ask("plan")
    ((name, release),) = document["images"]["releases"].items()
    for host in SERVING:
        found = json.loads(on(lab, host, f"docker image inspect {name}"))[0]
        assert found["RootFS"]["Layers"] == release["diff_ids"]
        assert found["Id"] in (release["config_digest"], release["manifest_digest"])


def test_the_plan_says_the_way_and_the_bytes(lab: Lab, controller: Controller) -> None:
    take_away(lab, ONLINE)
    take_away(lab, SIDELOADED)
    text = controller.run("plan").stdout
    assert f"MB from {lab.registry}" in text
    assert "MB from this controller through bastion jump@" in text
    _, document = controller.ask("plan")
    steps = {host: document["hosts"][host]["steps"] for host in (ONLINE, SIDELOADED)}
    assert any(step["size"] and step["way"] == f"from {lab.registry}" for step in steps[ONLINE])
    assert any(step["size"] and "through bastion" in step["way"] for step in steps[SIDELOADED])
    brought(lab, controller, ONLINE, SIDELOADED)


def test_without_root_the_right_ca_is_enough_and_a_wrong_one_gives_two_lines(lab: Lab, controller: Controller) -> None:
    ca = f"/etc/docker/certs.d/{lab.registry}/ca.crt"
    on(lab, DEV.name, f"echo other > {ca}")
    before = images_on(lab, DEV.name)
    code, document = controller.ask("deploy", "--limit", DEV.name)
    assert code == 1
    failure = document["failed"][DEV.name]
    here, there = (line.strip() for line in failure["message"].splitlines()[-2:])
    assert here.startswith("scp ")
    assert str(lab.paths.ca) in here
    assert images_on(lab, DEV.name) == before
    subprocess.run(here, shell=True, check=True, capture_output=True)  # noqa: S602  as a person would paste it
    on(lab, DEV.name, there)
    code, document = controller.ask("deploy", "--limit", DEV.name)
    assert (code, document["failed"]) == (0, {})


def test_a_disk_that_fills_up_while_pulling(lab: Lab, controller: Controller) -> None:
    take_away(lab, ONLINE)
    full_in_the_middle(lab, controller, ONLINE)


def test_a_disk_that_fills_up_while_loading(lab: Lab, controller: Controller) -> None:
    take_away(lab, SIDELOADED)
    full_in_the_middle(lab, controller, SIDELOADED)


def full_in_the_middle(lab: Lab, controller: Controller, host: str) -> None:
    """Fill the disk after preflight has found room: once the plan is made and before the bytes are there."""
    process = under_way(controller, host)
    faults.inject(lab, "docker-disk-full", host)
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        faults.mend(lab, host)
    assert process.returncode == 1
    assert "no space left" in errors
    assert "next: free space" in errors
    assert "Traceback" not in errors
    assert images_on(lab, host) == ""
    brought(lab, controller, host)


def under_way(controller: Controller, host: str) -> subprocess.Popen[str]:
    """A deploy to one host whose bytes have just begun to move."""
    process = controller.start("deploy", "--limit", host)
    assert process.stderr is not None
    for line in process.stderr:
        if "at most" in line:
            return process
    raise AssertionError(f"the deploy ended with {process.wait()} before anything moved")


def test_a_link_that_is_cut_in_the_middle_of_a_sideload_and_stays_cut(
    lab: Lab, controller: Controller, tmp_path: Path
) -> None:
    """What happens when it comes back: tests/lab/test_resume.py."""
    take_away(lab, SIDELOADED)
    impatient = tmp_path / "impatient.yaml"
    impatient.write_text("all: {vars: {fleet: {sideload: {stall: 6, wait: 8}}}}\n", encoding="utf-8")
    faults.inject(lab, "link-cut:after=15MB", SIDELOADED)
    try:
        failure = refused(replace(controller.over(impatient), program=SHORT_LEASE), SIDELOADED)
    finally:
        faults.mend(lab, SIDELOADED)
    assert "could not sideload vllm-rocm:" in failure["message"]
    assert "there was no new connection" in failure["message"]
    assert "the host keeps what arrived" in failure["message"]
    assert "goes on from there" in failure["hint"]
    assert images_on(lab, SIDELOADED) == ""
    planned = controller.run("plan", "--limit", SIDELOADED).stdout
    assert "are staged in /var/tmp/fleet" in planned
    # The host has heard nothing of the end: its lock ends with its lease.
    assert within(45, lambda: on(lab, SIDELOADED, "flock -n /run echo free || true") == "free")
    brought(lab, controller, SIDELOADED)


def test_an_engine_that_is_stopped_in_the_middle_of_a_pull(lab: Lab, controller: Controller) -> None:
    take_away(lab, ONLINE)
    process = under_way(controller, ONLINE)
    faults.inject(lab, "docker-stopped", ONLINE)
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        faults.mend(lab, ONLINE)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "Docker engine" in errors
    assert "next: " in errors
    brought(lab, controller, ONLINE)


def test_a_release_that_the_registry_lost_in_the_meantime(lab: Lab, controller: Controller) -> None:
    """The controller has the layout (for the sideload), so it pushes the release again; and nothing else has to be done."""
    take_away(lab, ONLINE)
    on(
        lab,
        "registry",
        "rm -rf /var/lib/docker-registry/docker/registry/v2/repositories/vllm-rocm /var/lib/docker-registry/docker/registry/v2/blobs",
    )
    restart_registry(lab)
    brought(lab, controller, ONLINE)


def restart_registry(lab: Lab) -> None:
    node = lab.node("registry")
    node.stop_service("registry")
    node.start_service("registry")


def test_a_registry_that_refuses_us(lab: Lab, controller: Controller, tmp_path: Path) -> None:
    take_away(lab, ONLINE)
    (tmp_path / "wrong").write_text("wrong\n", encoding="utf-8")
    other = tmp_path / "other.yaml"
    registry = f"{{fleet: {{registry: {{password: {{file: {tmp_path / 'wrong'}}}}}}}}}"
    other.write_text(f"all: {{vars: {registry}}}\n", encoding="utf-8")
    done = controller.over(other).run("deploy", "--limit", ONLINE)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "401" in done.stderr or "credentials" in done.stderr or "refuse" in done.stderr
    assert images_on(lab, ONLINE) == ""
    brought(lab, controller, ONLINE)


def test_a_registry_that_stops_in_the_middle_of_a_pull(lab: Lab, controller: Controller) -> None:
    take_away(lab, ONLINE)
    process = under_way(controller, ONLINE)
    lab.node("registry").stop_service("registry")
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        lab.node("registry").start_service("registry")
    assert process.returncode == 1
    assert "could not pull" in errors
    assert "tried 4 times" in errors
    assert f"can the host reach {lab.registry}" in errors
    settled(controller)  # after all of this: every host serves what came at last


@pytest.mark.matrix
def test_a_builder_without_skopeo_goes_through_the_controller_and_says_so(
    lab: Lab, controller: Controller, tmp_path: Path
) -> None:
    on(lab, "builder", "mv /usr/bin/skopeo /usr/bin/skopeo.away")
    other = tmp_path / "other.yaml"
    other.write_text("all: {vars: {fleet: {image: {name: vllm-other}}}}\n", encoding="utf-8")
    try:
        done = controller.over(other).run("push", timeout=400)
    finally:
        on(lab, "builder", "mv /usr/bin/skopeo.away /usr/bin/skopeo")
    assert done.returncode == 0, done.stderr
    assert f"goes to {lab.registry} through this controller: builder has no skopeo" in done.stdout


@pytest.fixture(scope="module")
def bare(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """The same site without a registry, and a release that no host has."""
    folder = tmp_path_factory.mktemp("bare")
    fleet = {"registry": None, "delivery": "sideload", "image": {"source": {"ref": "v0.12.0"}}}
    (folder / "over.yaml").write_text(json.dumps({"all": {"vars": {"fleet": fleet}}}))
    return Controller(folder, (lab.inventory, folder / "over.yaml"))


CABLE = 2 << 20  # bytes of commands and answers in a run


def from_controller(lab: Lab, host: str) -> int:
    """Bytes that came to the host from the controller since it was first asked."""
    script = f"iptables -C INPUT -s {lab.topology.controller} || iptables -I INPUT -s {lab.topology.controller}"
    on(lab, host, f"{{ {script}; }} 2>/dev/null")
    return int(on(lab, host, "iptables -nvxL INPUT 1").split()[1])


def alike(lab: Lab, controller: Controller, hosts: tuple[str, ...]) -> None:
    """The release's own image on each of them."""
    _, document = controller.ask("plan")
    ((name, release),) = document["images"]["releases"].items()
    for host in hosts:
        found = json.loads(on(lab, host, f"docker image inspect {name}"))[0]
        assert found["RootFS"]["Layers"] == release["diff_ids"]
        assert found["Id"] in (release["config_digest"], release["manifest_digest"])


def test_without_a_registry_what_was_built_goes_straight_from_the_builder(lab: Lab, bare: Controller) -> None:
    for host in (ONLINE, DEV.name):
        take_away(lab, host)
    assert "hosts that reach builder at" in bare.run("deploy", "--check").stdout
    assert bare.run("build").returncode == 0
    _, document = bare.ask("plan")
    ((_, release),) = document["images"]["releases"].items()
    steps = {host: document["hosts"][host]["steps"][0] for host in SERVING}
    for host in (ONLINE, DEV.name):
        assert (steps[host]["way"], steps[host]["size"]) == ("straight from builder", release["bytes"])
    assert steps[SIDELOADED]["way"].startswith("from builder over this controller through bastion")
    assert "it does not reach builder at" in steps[SIDELOADED]["why"]

    before = {host: from_controller(lab, host) for host in (ONLINE, DEV.name)}
    code, document = bare.ask(*DISTRIBUTE, f"{ONLINE},{DEV.name}")
    assert (code, document["failed"]) == (0, {})
    assert max(from_controller(lab, host) - count for host, count in before.items()) < CABLE < release["bytes"]
    assert list((bare.directory / ".fleet/layouts").glob("[!.]*")) == []
    alike(lab, bare, (ONLINE, DEV.name))
    code, document = bare.ask(*DISTRIBUTE, f"{ONLINE},{DEV.name}")
    assert (code, {host["changed"] for host in document["hosts"].values()}) == (0, {0})
    assert on(lab, "builder", "docker ps -aq --filter label=io.fleet.depot; ls -A /var/tmp/fleet") == "build-depot"


@pytest.mark.matrix
def test_where_the_builder_is_not_reached_the_bytes_go_through_the_controller(lab: Lab, bare: Controller) -> None:
    take_away(lab, ONLINE)
    port = "OUTPUT -p tcp --dport 5444 -j REJECT"
    on(lab, ONLINE, f"iptables -I {port}")
    try:
        done = bare.run(*DISTRIBUTE, f"{ONLINE},{SIDELOADED}")
    finally:
        on(lab, ONLINE, f"iptables -D {port}")
    assert done.returncode == 0, done.stderr
    for host in (ONLINE, SIDELOADED):
        said = next(line for line in done.stderr.splitlines() if f"{host}: vllm-rocm:" in line)
        assert "comes from builder over this controller" in said
        assert "it does not reach builder at" in said
    alike(lab, bare, (ONLINE, SIDELOADED))
