"""What runs leave behind: a killed roll is gone on with, failed hosts are taken again, and every host's audit tells.

The tests of this module are one story and run in their order.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import MI250, MI300X, REGISTRY
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

GROUP = NodeSpec("mi300x-02", profile="mi300x-8", user="dev")  # in the docker group, without sudo
LOGINS = {MI300X.name: "root", MI250.name: "ops", GROUP.name: "dev"}
KEY = "sk-of-the-history-test"
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 100%}
- {name: roll, hosts: all, serial: 1, stages: [serve, verify], max_fail: 100%, min_healthy_time: 0s}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    os.environ["HISTORY_KEY"] = KEY
    try:
        with small_site("hist", tmp_path_factory.mktemp("history"), REGISTRY, MI300X, MI250, GROUP) as made:
            (made.controller.directory / "playbooks/deploy.yaml").write_text(PLAYBOOK)
            assert made.controller.run("push").returncode == 0
            yield made
    finally:
        del os.environ["HISTORY_KEY"]


def wants(site: Site, number: int, *, failing: str = "", seconds: str = "0.3") -> Controller:
    """The command for an operator who changed something of the service; one host may be made to fail."""
    env = {"ROUND": str(number), "STANDIN_START_SECONDS": seconds}
    services = {"chat": {"env": env, "secrets": {"VLLM_API_KEY": {"env": "HISTORY_KEY"}}}}
    text: dict[str, Any] = {"gpu": {"vars": {"fleet": {"services": services}}}}
    if failing:
        broken = {"fleet": {"services": {"chat": {"env": {"STANDIN_FAIL": "no_hip_gpus"}}}}}
        text["all"] = {"hosts": {failing: broken}}
    return site.over(json.dumps(text))


def alone(site: Site) -> Controller:
    """The command without an inventory: a run knows its own."""
    return Controller(site.controller.directory, ())


def round_of(site: Site, host: str) -> str:
    env = site.docker(host, "inspect", "-f", "{{json .Config.Env}}", "chat-0")
    return str(next(word.removeprefix("ROUND=") for word in json.loads(env) if word.startswith("ROUND=")))


def last_run(site: Site) -> dict[str, Any]:
    code, story = alone(site).ask("runs.show", "last")
    assert code == 0
    return dict(story)


def audit_of(site: Site) -> list[dict[str, Any]]:
    code, found = site.controller.ask("audit", "--last", "0")
    assert (code, found["failed"], found["unreadable_lines"]) == (0, {}, {})
    return list(found["entries"])


def test_a_run_is_listed_and_told(site: Site) -> None:
    assert wants(site, 1).run("deploy").returncode == 0
    story = last_run(site)
    assert (story["state"], story["exit_code"], story["counts"], story["next"]) == ("finished", 0, {"changed": 3}, [])
    assert story["batches"][0]["name"] == "bring, batch 1"
    listed = alone(site).run("runs").stdout
    assert story["id"] in listed
    assert "3 changed" in listed
    told = alone(site).run("runs.show", story["id"][:12], "--verbose").stdout
    assert "verify chat-0" in told
    page = site.controller.directory / ".fleet/runs" / story["id"] / "timeline.html"
    assert all(host in page.read_text() for host in LOGINS)


def test_a_killed_roll_is_gone_on_with_where_it_stopped(site: Site) -> None:
    process = wants(site, 2, seconds="4").start("deploy")
    assert process.stderr is not None
    said = ""
    while "batch 2: " not in said or "wait until chat-0-new" not in said.partition("batch 2: ")[2]:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGSTOP)  # however slow this machine is, the roll stays where it is
    assert f"run {last_run(site)['id']} is still running" in alone(site).run("deploy", "--resume").stderr
    process.kill()
    process.communicate(timeout=30)

    story = last_run(site)
    assert (story["state"], story["counts"]) == ("killed", {"changed": 1, "begun": 1, "not begun": 1})
    (done,) = [name for name, host in story["hosts"].items() if host["outcome"] == "changed"]
    (middle,) = [name for name, host in story["hosts"].items() if host["begun"] and not host["outcome"]]
    told = alone(site).run("runs.show", "last").stdout
    assert f"CUT OFF {middle}: during: wait until chat-0-new" in told
    assert f"invoke deploy --resume {story['id']}" in told

    before = site.serving(done)
    code, document = alone(site).ask("deploy", "--resume", story["id"], "--lock-wait", "2m")
    assert (code, document["failed"]) == (0, {})
    assert set(document["hosts"]) == set(LOGINS) - {done}
    assert site.serving(done) == before
    assert {round_of(site, host) for host in LOGINS} == {"2"}
    again = last_run(site)
    assert (again["continues"], again["counts"]) == (story["id"], {"changed": 2})
    nothing = alone(site).run("deploy", "--resume")
    assert (nothing.returncode, "left no host to go on with" in nothing.stderr) == (2, True)


def test_only_the_failed_hosts_are_taken_again(site: Site) -> None:
    failing = GROUP.name
    done = wants(site, 3, failing=failing).run("deploy")
    assert done.returncode == 1
    assert "invoke deploy --only-failed" in done.stderr
    story = last_run(site)
    assert story["counts"] == {"failed": 1, "changed": 2}
    told = alone(site).run("runs.show", "last").stdout
    assert told.index("FAILED") < told.index("changed:")
    assert "was put back and serves again" in told
    assert round_of(site, failing) == "2"

    time.sleep(0.1)  # two runs of one millisecond would have no order
    code, document = wants(site, 3).ask("deploy", "--only-failed")
    assert (code, document["failed"], set(document["hosts"])) == (0, {}, {failing})
    assert round_of(site, failing) == "3"
    assert last_run(site)["continues"] == story["id"]


def test_every_host_remembers_who_changed_what(site: Site) -> None:
    entries = audit_of(site)
    assert entries == sorted(entries, key=lambda entry: entry["at"])
    for host, login in LOGINS.items():
        served = [one for one in entries if one["host"] == host and one["action"] == "serve"]
        assert {one["ssh_user"] for one in served} == {login}
        assert {one["service"] for one in served} == {"chat"}
        assert all(one["release"] and one["spec"] and one["local_user"] and one["address"] for one in served)
        assert served[-1]["outcome"] == "done"
    failed = [one for one in entries if one["outcome"] == "failed"]
    assert [(one["host"], "No HIP GPUs" in one["message"]) for one in failed] == [(GROUP.name, True)]
    runs = {run["id"] for run in alone(site).ask("runs")[1]}
    assert {one["run"] for one in entries} <= runs
    only = site.controller.ask("audit", "--service", "chat", "--last", "2")[1]["entries"]
    assert [one["service"] for one in only] == ["chat", "chat"]
    assert "serve chat-0" in site.controller.run("audit").stdout


def test_a_host_that_does_not_answer_is_told_beside_the_others_audit(site: Site) -> None:
    node = site.lab.node(MI250.name)
    node.stop_service("sshd")
    try:
        code, found = site.controller.ask("audit")
    finally:
        node.start_service("sshd")
    assert code == 1
    assert set(found["failed"]) == {MI250.name}
    assert {one["host"] for one in found["entries"]} == set(LOGINS) - {MI250.name}


def test_no_secret_is_in_what_runs_leave_behind(site: Site) -> None:
    password = next(Path(f"/var/lib/fleet-lab/{site.lab.name}/keys").glob("registry-password")).read_text().strip()
    for path in (site.controller.directory / ".fleet").rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert KEY.encode() not in text, path
            assert password.encode() not in text, path
    for host in LOGINS:
        files = "find / -xdev -name 'audit.jsonl*' -path '*fleet*' 2>/dev/null | xargs cat"
        assert KEY not in site.sh(host, files)
        assert password not in site.sh(host, files)
