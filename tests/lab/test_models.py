"""Models to hosts over the real thing: a deploy that brings what its service needs, pushes of a new version, what blocks them.

The tests of this module are one story and run in their order.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import NodeSpec
from fleet.lab.files import model_files
from tests.hub import hub
from tests.lab.cli import Controller
from tests.lab.conftest import MI250
from tests.lab.kill_driver import struck
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

NAME = "org/new"
DEV = NodeSpec("mi300x-cpx-01", base="trixie", profile="mi300x-8-cpx", user="dev", containerd_store=True)
HOSTS = (MI250.name, DEV.name)  # root by sudo, and a login that is not root
PLACES = {MI250.name: "/srv/models", DEV.name: "/home/dev/models"}
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, {models: {source: models}}, distribute], max_fail: 100%}
- {name: roll, hosts: all, stages: [serve, verify], max_fail: 100%, min_healthy_time: 0s}
"""
WEIGHTS = 3 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its hosts have a model that nobody asks for; the controller has the one that the service wants."""
    with small_site("models", tmp_path_factory.mktemp("models"), MI250, DEV) as made:
        work = made.controller.directory
        (work / "playbooks/deploy.yaml").write_text(PLAYBOOK)
        source = work / "models" / NAME
        source.mkdir(parents=True)
        for file in model_files():
            (source / Path(file.path).name).write_bytes(file.content)
        (source / "model.safetensors").write_bytes(bytes(WEIGHTS))
        yield made


@pytest.fixture(scope="module")
def controller(site: Site) -> Controller:
    settings = {"delivery": "sideload", "services": {"chat": {"model": NAME}}}
    own = {DEV.name: {"fleet": {"models_dir": PLACES[DEV.name]}}}
    return site.over(json.dumps({"gpu": {"vars": {"fleet": settings}, "hosts": own}}))


def changed(document: dict[str, Any]) -> dict[str, int]:
    assert document["failed"] == {}, document["failed"]
    return {name: host["changed"] for name, host in document["hosts"].items()}


def weights(site: Site, content: bytes) -> None:
    (site.controller.directory / "models" / NAME / "model.safetensors").write_bytes(content)


def versions(site: Site, host: str) -> list[str]:
    return site.sh(host, f"ls -A {PLACES[host]}/org").split()


def test_a_deploy_brings_the_model_that_its_service_lacks_and_the_second_one_nothing(
    site: Site, controller: Controller
) -> None:
    refused = controller.run("preflight")
    assert refused.returncode == 1
    assert f"chat wants {NAME}" in refused.stdout
    code, planned = controller.ask("deploy", "--check")
    assert (code, planned["failed"]) == (0, {})
    for host in HOSTS:
        (step,) = [one for one in planned["hosts"][host]["steps"] if one["what"].startswith("stage 2 files")]
        assert step["size"] > WEIGHTS
        assert site.sh(host, f"ls {PLACES[host]}/org 2>/dev/null || true") == ""
    code, document = controller.ask("deploy")
    assert code == 0
    assert all(count > 0 for count in changed(document).values())
    for host in HOSTS:
        assert "Paris" in document["hosts"][host]["proofs"]["chat-0"]["answer"]
        site.sh(host, f"cd {PLACES[host]}/{NAME} && sha256sum --quiet --check .fleet.sha256")
        assert site.sh(host, f"ls -d {PLACES[host]}/.fleet 2>/dev/null || true") == ""
    for words in (("deploy",), ("models.push", NAME)):
        code, document = controller.ask(*words)
        assert (code, changed(document)) == (0, dict.fromkeys(HOSTS, 0))


def test_a_push_that_was_killed_goes_on_and_moves_what_differs_under_a_service_that_runs(
    site: Site, controller: Controller
) -> None:
    serving = {host: site.serving(host) for host in HOSTS}
    weights(site, b"2" * WEIGHTS)
    words = controller.argv("models.push", NAME, "--limit", MI250.name)[1:]
    struck(words, controller.directory, site.folder, ("fleet.models.execute:_switch", 1, "before"), "KILL")
    assert site.sh(MI250.name, f"head -c 1 {PLACES[MI250.name]}/{NAME}/model.safetensors | tr '\\0' 0") == "0"
    code, planned = controller.ask("models.push", NAME, "--check")
    assert code == 0
    assert {host: planned["hosts"][host]["bytes"] for host in HOSTS} == {MI250.name: 0, DEV.name: WEIGHTS}
    code, document = controller.ask("models.push", NAME)
    assert (code, changed(document)) == (0, dict.fromkeys(HOSTS, 2))
    assert {host: site.serving(host) for host in HOSTS} == serving
    for words in (("models.push", NAME), ("deploy",)):
        code, document = controller.ask(*words)
        assert (code, changed(document)) == (0, dict.fromkeys(HOSTS, 0))
    code, document = controller.ask("models.list")
    assert code == 0
    for host in HOSTS:
        (model,) = [one for one in document["hosts"][host]["models"] if one["name"] == NAME]
        assert (model["kind"], model["listed"], model["served"], len(model["versions"])) == ("link", True, True, 2)
    audit = controller.run("audit")
    assert f"switch model {NAME}" in controller.run("audit", "--verbose").stdout, audit.stdout


def test_a_damaged_file_is_found_by_verify_and_repaired_by_a_push(site: Site, controller: Controller) -> None:
    assert controller.run("models.verify").returncode == 0
    file = f"{PLACES[MI250.name]}/{NAME}/model.safetensors"
    site.sh(
        MI250.name,
        f"touch -r {file} /tmp/t; printf X | dd of={file} conv=notrunc 2>&1; touch -r /tmp/t {file}; rm /tmp/t",
    )
    code, document = controller.ask("models.verify", "--model", NAME)
    assert code == 1
    assert {host: found[0]["wrong"] for host, found in document["hosts"].items()} == {
        MI250.name: ["model.safetensors"],
        DEV.name: [],
    }
    code, document = controller.ask("models.push", NAME, "--rehash")
    assert (code, changed(document)) == (0, {MI250.name: 3, DEV.name: 0})  # the oldest version goes as well
    assert controller.run("models.verify", "--model", NAME).returncode == 0


def test_a_model_is_not_switched_while_a_service_starts_from_it_and_what_is_mounted_stays(
    site: Site, controller: Controller
) -> None:
    host = MI250.name
    image = site.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0")
    label = ("-l", "io.fleet.service=chat", "-l", "io.fleet.port=9")  # nothing ever answers there
    words = ("--entrypoint", "sh", image, "-c", "exec sleep 3000", f"/app/models/{NAME}")
    site.docker(host, "run", "-d", "--name", "chat-9", *label, *words)
    weights(site, b"3" * WEIGHTS)
    refused = controller.run("models.push", NAME, "--limit", host)
    assert refused.returncode == 1
    assert f"chat-9 is starting and may be reading {NAME}" in refused.stderr
    assert site.sh(host, f"head -c 1 {PLACES[host]}/{NAME}/model.safetensors") == "2"
    site.docker(host, "rm", "-f", "chat-9")

    mounted = site.sh(host, f"readlink {PLACES[host]}/{NAME}")
    site.docker(host, "run", "-d", "--name", "other", "-v", f"{PLACES[host]}/{NAME}:/model:ro", *words)
    code, document = controller.ask("models.push", NAME, "--limit", host)
    assert (code, document["failed"]) == (0, {})
    weights(site, b"4" * WEIGHTS)
    assert controller.run("models.push", NAME, "--limit", host).returncode == 0
    assert mounted in versions(site, host)
    site.docker(host, "rm", "-f", "other")
    for count in (1, 0):  # nobody has it any more
        code, document = controller.ask("models.push", NAME, "--limit", host)
        assert (code, changed(document)) == (0, {host: count})
    assert mounted not in versions(site, host)


def test_a_disk_of_each_host_and_a_hub_are_sources_and_the_second_run_moves_nothing(
    site: Site, controller: Controller
) -> None:
    for host, byte in zip(HOSTS, "56", strict=True):
        script = f"mkdir -p /mnt/disk/org && cp -rL {PLACES[host]}/{NAME} /mnt/disk/org/ && cd /mnt/disk/{NAME}"
        site.sh(host, f"{script} && rm .fleet.sha256 && printf {byte} | dd of=model.safetensors conv=notrunc 2>&1")
    disk = ("models.push", NAME, "--source", "host:/mnt/disk")
    done = controller.run(*disk)
    assert done.returncode == 0, done.stderr
    assert f"model {NAME} is not the same on all disks" in done.stdout + done.stderr
    for host, byte in zip(HOSTS, "56", strict=True):
        assert site.sh(host, f"head -c 1 {PLACES[host]}/{NAME}/model.safetensors") == byte
        site.sh(host, f"cd {PLACES[host]}/{NAME} && sha256sum --quiet --check .fleet.sha256")
    assert changed(controller.ask(*disk)[1]) == dict.fromkeys(HOSTS, 0)

    files = {Path(file.path).name: file.content for file in model_files()} | {"model.safetensors": b"7" * WEIGHTS}
    with hub(files, address=site.lab.topology.controller) as server:
        words = ("models.push", NAME, "--hf", "org/tiny", "--endpoint", server.url)
        server.cut = [WEIGHTS // 2]
        code, document = controller.ask(*words)
        assert (code, document["failed"]) == (0, {})
        assert server.sent < 2 * WEIGHTS + (1 << 20)
        lock = next(Path(site.lab.inventory).parent.rglob("*.lock.yaml"))
        assert f"{server.url} org/tiny main: {server.commit}" in lock.read_text()
        server.asked.clear()
        assert changed(controller.ask(*words)[1]) == dict.fromkeys(HOSTS, 0)
        assert server.asked == []
    for host in HOSTS:
        assert site.sh(host, f"head -c 1 {PLACES[host]}/{NAME}/model.safetensors") == "7"


def test_a_directory_that_the_login_may_not_write_is_told_and_nothing_is_touched(site: Site) -> None:
    done = site.controller.run("models.push", NAME, "--limit", DEV.name)
    assert done.returncode == 1
    assert "only its owner may write" in done.stderr
    assert site.sh(DEV.name, "ls -A /srv/models") == "tiny-chat"
    for words in (("models.push", "../up"), ("models.push", "absent"), ("models.push", NAME, "--source", "nowhere")):
        assert site.controller.run(*words).returncode == 2
