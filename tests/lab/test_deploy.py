"""The main job on the whole lab: plan, deploy, nothing to do the second time, repair what was edited, put back what fails.

The tests of this module are one story and run in their order.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import Lab
from tests.lab.cli import Controller
from tests.lab.conftest import lab_name

pytestmark = pytest.mark.lab

SERVING = ("mi300x-01", "mi250-01", "mi300x-cpx-01", "mi300x-off-01")
STATE = (
    "docker ps -aq --no-trunc | sort; docker images -aq --no-trunc | sort; docker volume ls -q;"
    "find /etc /srv /opt /var/tmp /var/lib/fleet /usr/local -type f -exec md5sum {} + 2>/dev/null | sort"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A default lab of its own: this story begins on bare nodes."""
    name = lab_name("dep")
    try:
        yield Lab.up(name, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture(scope="module")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"), (lab.inventory,))


def state(lab: Lab) -> dict[str, str]:
    return {host: lab.node(host).exec(("sh", "-c", STATE), check=False).stdout for host in (*SERVING, "builder")}


def changed(document: dict[str, Any]) -> dict[str, int]:
    return {name: host["changed"] for name, host in document["hosts"].items()}


def docker(lab: Lab, host: str, *words: str) -> str:
    return lab.node(host).exec(("docker", *words)).stdout.strip()


def settled(controller: Controller) -> None:
    code, document = controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert changed(document) == dict.fromkeys(SERVING, 0)


def test_check_shows_a_plan_and_changes_nothing_anywhere(lab: Lab, controller: Controller) -> None:
    before = state(lab)
    done = controller.run("deploy", "--check")
    assert done.returncode == 0, done.stderr
    assert "would build vllm-rocm" in done.stdout
    assert state(lab) == before


def test_deploy_ends_with_answers_from_every_host(lab: Lab, controller: Controller) -> None:
    code, document = controller.ask("deploy")
    assert document["failed"] == {}
    assert code == 0
    assert set(document["hosts"]) == set(SERVING)
    for host in document["hosts"].values():
        assert host["changed"] > 0
        assert "Paris" in host["proofs"]["chat-0"]["answer"]


def test_the_second_deploy_changes_nothing(lab: Lab, controller: Controller) -> None:
    before = state(lab)
    settled(controller)
    assert state(lab) == before


def test_one_release_is_the_same_on_every_host_by_every_delivery(lab: Lab, controller: Controller) -> None:
    _, document = controller.ask("plan")
    ((name, release),) = document["images"]["releases"].items()
    for host in SERVING:
        found = json.loads(docker(lab, host, "image", "inspect", name))[0]
        assert found["RootFS"]["Layers"] == release["diff_ids"]
        assert found["Id"] in (release["config_digest"], release["manifest_digest"])


def test_a_second_controller_with_inventory_and_lock_has_nothing_to_do(lab: Lab, tmp_path: Path) -> None:
    lock = lab.inventory.with_name(f"{lab.inventory.stem}.lock.yaml")
    for file in (lab.inventory, lock):
        shutil.copy(file, tmp_path)
    settled(Controller(tmp_path, (tmp_path / lab.inventory.name,)))


# Host -> what somebody types there, and how the plan names it. Each host has another edit, and one has two.
EDITS = {
    "mi300x-01": (
        "for file in /etc/docker/certs.d/*/ca.crt; do echo other > $file; done; docker rm -f chat-0",
        ("another CA is there", "no container of chat-0"),
    ),
    "mi250-01": ("docker stop -t 5 chat-0", ("start chat-0",)),
    "mi300x-cpx-01": ("docker update --restart=no chat-0", ("restart",)),
    "mi300x-off-01": ("docker rmi -f $(docker inspect -f '{{.Config.Image}}' chat-0) || true", ("tag vllm-rocm",)),
}


def test_edits_behind_our_back_are_planned_by_name_and_repaired(lab: Lab, controller: Controller) -> None:
    for host, (command, _) in EDITS.items():
        lab.node(host).exec(("sh", "-c", command))
    _, planned = controller.ask("plan")
    for host, (_, named) in EDITS.items():
        steps = json.dumps(planned["hosts"][host]["steps"])
        assert all(words in steps for words in named), (host, steps)
    code, document = controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert all(changed(document).values())
    docker(lab, "mi300x-01", "tag", docker(lab, "mi300x-01", "inspect", "-f", "{{.Image}}", "chat-0"), "vllm-rocm:mine")
    settled(controller)  # another name of the image is nobody's business


def test_a_new_container_that_fails_leaves_the_old_one_serving(
    lab: Lab, controller: Controller, tmp_path: Path
) -> None:
    before = docker(lab, "mi250-01", "inspect", "-f", "{{.Id}}", "chat-0")
    broken = tmp_path / "broken.yaml"
    broken.write_text("gpu: {vars: {fleet: {services: {chat: {args: {no-such-flag: 1}}}}}}\n", encoding="utf-8")
    code, document = controller.over(broken).ask("deploy", "--limit", "mi250-01")
    assert code == 1
    failure = document["failed"]["mi250-01"]
    assert "unrecognized arguments" in json.dumps(failure)
    assert docker(lab, "mi250-01", "inspect", "-f", "{{.Id}} {{.State.Running}}", "chat-0") == f"{before} true"
    assert controller.run("verify", "--limit", "mi250-01").returncode == 0


def test_a_change_replaces_the_container_and_says_what_differs(
    lab: Lab, controller: Controller, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("gpu: {vars: {fleet: {services: {chat: {env: {COLOUR: blue}}}}}}\n", encoding="utf-8")
    changing = controller.over(other)
    planned = changing.run("plan", "--diff", "--limit", "mi300x-off-01")
    assert "COLOUR" in planned.stdout
    code, document = changing.ask("deploy", "--limit", "mi300x-off-01")
    assert (code, document["failed"]) == (0, {})
    assert "COLOUR=blue" in docker(lab, "mi300x-off-01", "inspect", "-f", "{{.Config.Env}}", "chat-0")
    assert controller.ask("deploy", "--limit", "mi300x-off-01")[0] == 0  # and back


def test_status_endpoints_logs_and_verify_agree(lab: Lab, controller: Controller) -> None:
    code, document = controller.ask("status")
    assert code == 0
    for host in SERVING:
        (row,) = document["hosts"][host]
        assert (row["state"], row["health"], row["drift"]) == ("running", "ok", [])
    endpoints = json.loads(controller.run("endpoints").stdout)
    assert {one["host"] for one in endpoints if one["healthy"]} == set(SERVING)
    discovered = json.loads(controller.run("endpoints", "--prometheus").stdout)
    assert all(group["targets"][0].endswith(":8000") for group in discovered)
    assert "Application startup complete" in controller.run("logs", "chat", "--tail", "500").stdout
    assert controller.run("verify").returncode == 0


def test_sideload_and_serve_do_their_part_alone(lab: Lab, controller: Controller) -> None:
    lab.node("mi250-01").exec(("sh", "-c", "docker rm -f chat-0 chat-0-previous; docker rmi -f $(docker images -q)"))
    assert controller.run("serve", "--limit", "mi250").returncode == 1  # its image is not there, and that is said
    assert controller.run("sideload", "--limit", "mi250").returncode == 0
    assert controller.run("serve", "--limit", "mi250").returncode == 0


def test_a_registry_that_is_gone_is_said_and_nothing_is_touched(lab: Lab, controller: Controller) -> None:
    before = state(lab)
    lab.node("registry").stop_service("registry")
    try:
        done = controller.run("deploy")
    finally:
        lab.node("registry").start_service("registry")
    assert done.returncode == 1
    assert lab.registry in done.stderr
    assert "Traceback" not in done.stderr
    assert state(lab) == before


def test_a_reboot_brings_the_service_back(lab: Lab, controller: Controller) -> None:
    lab.node("mi300x-01").reboot()
    code, document = controller.ask("deploy", "--limit", "mi300x-01")
    assert (code, document["failed"]) == (0, {})
    assert "Paris" in document["hosts"]["mi300x-01"]["proofs"]["chat-0"]["answer"]


def test_stop_keeps_the_container_and_deploy_starts_it_again(lab: Lab, controller: Controller) -> None:
    before = docker(lab, "mi250-01", "inspect", "-f", "{{.Id}}", "chat-0")
    assert controller.run("stop", "--limit", "mi250-01").returncode == 0
    assert docker(lab, "mi250-01", "inspect", "-f", "{{.Id}} {{.State.Running}}", "chat-0") == f"{before} false"
    assert controller.run("verify", "--limit", "mi250-01").returncode == 1
    assert controller.ask("deploy")[0] == 0
    assert docker(lab, "mi250-01", "inspect", "-f", "{{.Id}}", "chat-0") == before
    settled(controller)  # after all of this story
