"""Edits behind our back: each shows in the plan by name, is repaired or reported, and then there is nothing to do."""

from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from tests.lab.conftest import MI300X
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

HOST = MI300X.name
Json = dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with small_site("edt", tmp_path_factory.mktemp("edits"), MI300X) as made:
        code, document = made.controller.ask("deploy")
        assert (code, document["failed"]) == (0, {})
        yield made


def settled(site: Site) -> None:
    code, document = site.controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert document["hosts"][HOST]["changed"] == 0


def recreate(site: Site, edit: Callable[[Json], object]) -> None:
    """The container made anew by somebody's hand: everything as it was, labels too, but for one edit."""
    api = docker.APIClient(base_url=f"unix://{site.lab.node(HOST).root}/run/docker.sock", version="1.40")
    found = api.inspect_container("chat-0")
    body = {**found["Config"], "HostConfig": found["HostConfig"]}
    edit(body)
    api.remove_container("chat-0", force=True)
    made = api.post(f"{api.base_url}/v1.40/containers/create", params={"name": "chat-0"}, json=body)
    made.raise_for_status()
    api.start("chat-0")


def edit_everything(body: Json) -> None:
    body["Env"].append("COLOUR=blue")
    body["Cmd"].extend(("--max-num-seqs", "7"))
    other = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/extra", "CgroupPermissions": "rwm"}
    body["HostConfig"]["Devices"].append(other)
    body["HostConfig"]["GroupAdd"] = ["44"]


NAMED = (
    "env COLOUR: blue -> nothing",
    "command: ",
    "devices: /dev/dri /dev/kfd /dev/null -> /dev/dri /dev/kfd",
    "groups: 44 -> ",
)


def test_a_container_made_anew_with_edits_is_planned_with_every_one_by_name_and_replaced(site: Site) -> None:
    recreate(site, edit_everything)
    planned = site.controller.run("plan")
    assert planned.returncode == 0
    for named in NAMED:
        assert named in planned.stdout
    code, document = site.controller.ask("drift")
    (drift,) = document["hosts"][HOST]
    assert (code, drift["kind"], drift["subject"]) == (1, "container", "chat-0")
    assert all(named in drift["what"] for named in NAMED)
    code, document = site.controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert document["hosts"][HOST]["changed"] > 0
    settled(site)
    code, document = site.controller.ask("drift")
    assert (code, document) == (0, {"hosts": {HOST: []}, "notes": [], "failed": {}})


def test_a_driver_that_waits_for_a_reboot_is_reported_and_touches_no_service(site: Site) -> None:
    before = site.serving(HOST)
    site.lab.break_("driver-pending-reboot", HOST)
    try:
        for verb in ("plan", "deploy"):
            done = site.controller.run(verb)
            assert done.returncode == 0
            assert "driver_pending_reboot" in done.stdout + done.stderr
        settled(site)
    finally:
        site.lab.mend(HOST)
    assert site.serving(HOST) == before
    assert "driver_pending_reboot" not in site.controller.run("plan").stdout


def test_another_partition_mode_keeps_the_host_out_and_the_old_container_serving(site: Site) -> None:
    before = site.serving(HOST)
    site.lab.break_("partition-changed", HOST)
    try:
        assert "promised is SPX" in site.controller.run("plan").stdout
        code, document = site.controller.ask("deploy")
        assert code == 1
        assert "was left alone: gpu_count: 8 promised, 64 seen" in document["failed"][HOST]["message"]
        assert site.serving(HOST) == before
    finally:
        site.lab.mend(HOST)
    settled(site)


def test_another_group_of_dev_kfd_on_the_host_is_followed(site: Site) -> None:
    before = site.sh(HOST, "stat -c %g /dev/kfd")
    site.sh(HOST, "chgrp 12345 /dev/kfd")
    assert f"groups: {before} -> {before} 12345" in site.controller.run("plan").stdout
    code, document = site.controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert "12345" in site.docker(HOST, "inspect", "-f", "{{.HostConfig.GroupAdd}}", "chat-0")
    settled(site)
