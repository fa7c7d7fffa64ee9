"""Hosts behind one bastion, which is their slow link: one of them gets the images over it, the others from that one.

Bytes are counted where they enter the bastion. The tests of this module are one story and run in their order.
"""

import hashlib
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import hub
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION
from tests.lab.registry_image import registry_archive
from tests.lab.relay_story import (
    BALLAST,
    DEV,
    DISTRIBUTE,
    FIRST,
    LIMIT,
    MODEL,
    ROOTS,
    SECOND,
    SPECS,
    TALK,
    THIRD,
    Story,
    UnderWay,
    unchanged,
    well,
)
from tests.lab.rolls import fleet_of, within

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("relays")
    with fleet_of("relay", folder, *SPECS, ballast=BALLAST) as fleet:
        yield Story(fleet, registry_archive(folder / "registry.tar"))


def test_the_bytes_go_over_the_slow_link_once(story: Story) -> None:
    controller = story.wants("a")
    assert controller.run("build").returncode == 0
    code, document = controller.ask(*DISTRIBUTE, *LIMIT, "--check")
    assert code == 0
    ways = {host: {one["way"] for one in document["hosts"][host]["steps"] if one["size"]} for host in ROOTS}
    assert ways[SECOND] == ways[THIRD] == {f"from relay {FIRST}"}
    assert all("through bastion" in way for way in ways[FIRST])
    assert story.left(*ROOTS) == []

    before, blobs = story.wire(), story.size("a") + story.archive.stat().st_size
    said = well(controller, *DISTRIBUTE, *LIMIT)
    assert f"{FIRST}: is the relay at" in said
    assert story.wire() - before <= 1.05 * blobs + TALK
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []
    key = story.fleet.controller.directory / ".fleet/relay/ca.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    unchanged(story, controller, *LIMIT)


def test_a_host_that_is_installed_anew_gets_everything_from_the_store_of_the_relay(story: Story) -> None:
    before = story.wire()
    story.take_away(SECOND, THIRD)
    well(story.wants("a"), *DISTRIBUTE, *LIMIT)
    assert story.hold(*ROOTS)
    assert story.wire() - before < TALK


def test_a_model_goes_over_the_slow_link_once_and_who_has_no_curl_gets_it_over_ssh(
    story: Story, tmp_path: Path
) -> None:
    source = tmp_path / "models/org/big"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    weights = source / "model.safetensors"
    weights.write_bytes(os.urandom(MODEL))
    push = ("models.push", "org/big", "--source", str(tmp_path / "models"), *LIMIT)
    controller = story.wants("a")
    before = story.wire()
    said = well(controller, *push)
    assert f"{FIRST}: is the relay at" in said
    assert story.wire() - before <= 1.05 * MODEL + TALK
    for host in ROOTS:
        story.fleet.sh(host, "cd /srv/models/org/big && sha256sum --quiet --check .fleet.sha256")
        assert story.fleet.sh(host, "ls -A /srv/models | grep fleet; true") == ""
    assert story.left(*ROOTS) == []
    before = story.wire()
    code, document = controller.ask(*push)
    assert (code, {host["changed"] for host in document["hosts"].values()}) == (0, {0})
    assert story.wire() - before < TALK

    weights.write_bytes(os.urandom(MODEL))
    story.fleet.sh(THIRD, "mv /usr/bin/curl /usr/bin/curl.away")
    try:
        before = story.wire()
        said = well(controller, *push)
    finally:
        story.fleet.sh(THIRD, "mv /usr/bin/curl.away /usr/bin/curl")
    assert f"{THIRD}: there is no curl on the host to ask relay {FIRST}" in said
    assert MODEL < story.wire() - before <= 2.1 * MODEL + TALK
    for host in ROOTS:
        story.fleet.sh(host, "cd /srv/models/org/big && sha256sum --quiet --check .fleet.sha256")


@pytest.mark.parametrize("road", ["by the bastion", pytest.param("no way out", marks=pytest.mark.matrix)])
def test_a_model_of_hugging_face_goes_over_the_slow_link_once_by_the_relay_or_by_this_controller(
    story: Story, road: str
) -> None:
    here = story.fleet.lab.topology.controller
    if road == "by the bastion":
        gate = next(link.address for link in story.fleet.lab.node(BASTION.name).links if link.inside == "eth1")
        forward = "sysctl -qw net.ipv4.ip_forward=1; iptables -t nat -A POSTROUTING -j MASQUERADE"
        story.fleet.sh(BASTION.name, forward)
        story.fleet.sh(FIRST, f"ip route replace {here} via {gate}")
    else:
        story.fleet.sh(FIRST, f"ip route delete {here}; true")
    with hub({"config.json": b"{}", "model.safetensors": os.urandom(MODEL)}, address=here) as server:
        server.commit = hashlib.sha1(road.encode(), usedforsecurity=False).hexdigest()
        words = ("org/tiny", "--hf", "org/tiny", "--endpoint", server.url, "--revision", server.commit)
        push = ("models.push", *words, *LIMIT)
        controller, extra = story.wants("a"), 0 if story.relay_image(FIRST) else story.archive.stat().st_size
        before = story.wire()
        said = well(controller, *push)
        assert server.sent < 1.05 * MODEL
        assert story.wire() - before <= 1.05 * (MODEL + extra) + TALK
        assert ("so this controller gets it and sends it" in said) == (road == "no way out")
        for host in ROOTS:
            story.fleet.sh(host, "cd /srv/models/org/tiny && sha256sum --quiet --check .fleet.sha256")
        assert story.left(*ROOTS) == []
        assert not [*(controller.directory / ".fleet/hub").glob("blobs/*")]
        code, document = controller.ask(*push)
        assert (code, {host["changed"] for host in document["hosts"].values()}) == (0, {0})


def test_keep_leaves_the_relay_and_the_next_run_without_it_removes_it(story: Story) -> None:
    story.take_away(THIRD)
    kept = story.wants("a", keep=True)
    well(kept, *DISTRIBUTE, *LIMIT)
    left = story.left(FIRST, THIRD)
    assert len([line for line in left if line.startswith(FIRST)]) >= 3
    assert [line.split(":")[-1] for line in left if line.startswith(THIRD)] == ["5443"]
    unchanged(story, kept, *LIMIT)
    assert "an earlier run has left it" in well(story.wants("a"), *DISTRIBUTE, *LIMIT, "--check")
    well(story.wants("a"), *DISTRIBUTE, *LIMIT)
    assert story.left(*ROOTS) == []
    unchanged(story, story.wants("a"), *LIMIT)


def test_a_relay_that_dies_is_started_again_or_replaced_and_that_is_said(story: Story) -> None:
    assert story.wants("b").run("build").returncode == 0
    running = UnderWay(story, "b")
    filling = "ls /var/tmp/fleet/sideload/blobs/*.part 2>/dev/null && docker ps -q --filter name=fleet-relay || true"
    try:
        running.until(lambda: len(story.fleet.sh(FIRST, filling).splitlines()) > 1)
        story.fleet.docker(FIRST, "kill", "fleet-relay")
        running.until_it_serves()
        story.fleet.docker(FIRST, "kill", "fleet-relay")
        assert running.process.wait(timeout=200) == 0, running.said
    finally:
        story.mend()
    assert "after its store was filled; starting it again" in running.said
    assert f"{FIRST}: is no relay any more" in running.said
    assert f"{SECOND}: is the relay at" in running.said
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []


@pytest.mark.matrix
def test_a_relay_that_dies_while_it_serves_is_started_again_and_nothing_goes_over_the_slow_link(story: Story) -> None:
    well(story.wants("b"), *DISTRIBUTE, *LIMIT)  # its store has everything
    story.take_away(SECOND, THIRD)
    before = story.wire()
    running = UnderWay(story, "b")
    try:
        running.until_it_serves()
        story.fleet.docker(FIRST, "kill", "fleet-relay")
        running.until(lambda: f"{FIRST}: is the relay at" in running.said.partition("starting it again")[2])
    finally:
        story.mend()
    assert running.process.wait(timeout=200) == 0, running.said
    assert f"{FIRST}: does not serve as the relay any more" in running.said
    assert "is no relay any more" not in running.said
    assert story.wire() - before < TALK
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["its network goes", "it reboots"])
def test_a_relay_whose_host_is_lost_is_replaced_and_the_next_run_finds_everything_well(story: Story, how: str) -> None:
    story.take_away(SECOND, THIRD)
    running = UnderWay(story, "b")
    try:
        running.until_it_serves()
        if how == "it reboots":
            story.fleet.lab.node(FIRST).reboot()
        else:
            story.fleet.lab.node(FIRST).link_down()
        running.process.wait(timeout=400)
    finally:
        if how == "its network goes":
            story.fleet.lab.node(FIRST).link_up()
            story.mend()
    assert f"{FIRST}: is no relay any more" in running.said
    assert f"{SECOND}: is the relay at" in running.said
    assert story.hold(SECOND, THIRD), running.said
    assert within(75, lambda: not any(story.fleet.locked(host) for host in ROOTS))
    well(story.wants("b"), *DISTRIBUTE, *LIMIT)
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []


def test_models_and_images_of_one_play_come_by_one_relay(story: Story, tmp_path: Path) -> None:
    source = tmp_path / "models/org/both"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(os.urandom(MODEL))
    models = f"{{models: {{source: {tmp_path}/models, names: [org/both]}}}}"
    text = f"- {{name: bring, hosts: all, stages: [image, {models}, distribute], max_fail: 100%}}\n"
    play = ("play", story.fleet.playbook("both", text), *LIMIT)
    story.take_away(*ROOTS)
    controller, before = story.wants("a"), story.wire()
    shown = well(controller, *play, "--check")
    assert (shown.count("start relay"), shown.count("remove container fleet-relay")) == (1, 1)
    story.fleet.sh(FIRST, "rm -rf /var/tmp/fleet/relay/store")
    said = well(controller, *play)
    assert said.count(f"{FIRST}: is the relay at") == 2
    last = max((controller.directory / ".fleet/runs").iterdir(), key=lambda one: one.stat().st_mtime)
    steps = [json.loads(line) for line in (last / "journal.jsonl").read_text().splitlines()]
    kinds = [step["kind"] for step in steps if step["type"] == "begin" and step["host"] == FIRST]
    assert (kinds.count("StartRelay"), kinds.count("StopRelay")) == (1, 1)
    assert story.wire() - before <= 1.05 * (story.size("a") + MODEL) + TALK
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []
    code, document = controller.ask(*play)
    assert (code, {host["changed"] for host in document["hosts"].values()}) == (0, {0})


def test_an_interrupted_run_takes_its_relay_down_and_a_killed_one_is_cleared_up_by_the_next(story: Story) -> None:
    for end in (signal.SIGINT, signal.SIGKILL):
        story.take_away(SECOND, THIRD)
        running = UnderWay(story, "b")
        try:
            running.until_it_serves()
            running.process.send_signal(end)
            assert running.process.wait(timeout=60) != 0
        finally:
            story.mend()
        assert bool(story.left(*ROOTS)) == (end is signal.SIGKILL), running.said
    assert within(75, lambda: not any(story.fleet.locked(host) for host in ROOTS))
    well(story.wants("b"), *DISTRIBUTE, *LIMIT)
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []


def test_who_may_not_place_the_ca_or_cannot_reach_the_relay_is_sideloaded_and_that_is_said(story: Story) -> None:
    story.take_away(THIRD)
    story.fleet.sh(THIRD, "iptables -I OUTPUT -p tcp --dport 5443 -j REJECT")
    try:
        said = well(story.wants("b"), *DISTRIBUTE)
    finally:
        story.fleet.sh(THIRD, "iptables -D OUTPUT -p tcp --dport 5443 -j REJECT")
    assert f"{DEV}: only root may place the CA of relay {FIRST}" in said
    assert f"{THIRD}: could not get the image from relay {FIRST}, which answers" in said
    assert f"{DEV}: sideload vllm-rocm" in said
    assert story.hold(*ROOTS, DEV)
    assert story.left(*ROOTS, DEV) == []
    unchanged(story, story.wants("b"))


def test_a_bundle_carries_the_registry_and_a_site_is_deployed_from_it(story: Story, tmp_path: Path) -> None:
    controller = story.wants("b", host=SECOND)
    well(controller, "bundle.create", "-o", str(tmp_path / "disk"), *LIMIT)
    site = Controller(tmp_path / "site", controller.inventories)
    shutil.copytree(controller.directory / "playbooks", site.directory / "playbooks")
    assert "could be deployed from it" in well(site, "bundle.verify", str(tmp_path / "disk"), "--unsigned", *LIMIT)
    story.take_away(*ROOTS, registry=True)
    hidden = story.archive.rename(tmp_path / "hidden.tar")
    try:
        deploy = ("deploy", "--bundle", str(tmp_path / "disk"), "--unsigned")
        said = well(site, *deploy, *LIMIT)
        code, document = site.ask(*deploy, *LIMIT)
    finally:
        hidden.rename(story.archive)
    assert f"{SECOND}: is the relay at" in said
    assert (code, document["failed"]) == (0, {})
    assert {host["changed"] for host in document["hosts"].values()} == {0}
    assert story.left(*ROOTS) == []
    assert json.loads(story.fleet.docker(FIRST, "inspect", "chat-0"))[0]["State"]["Running"]
