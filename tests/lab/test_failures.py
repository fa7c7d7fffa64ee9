"""Failing hosts and services: a clear message, the right exit code, nothing half done, and the other hosts are served."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from fleet.lab.keys import ssh_key
from tests.lab.conftest import MI250, MI300X, REGISTRY
from tests.lab.rolls import within
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

GOOD, BAD = MI300X.name, MI250.name


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with small_site("fail", tmp_path_factory.mktemp("failures"), REGISTRY, MI300X, MI250) as made:
        code, document = made.controller.ask("deploy")
        assert (code, document["failed"]) == (0, {})
        ssh_key(made.folder / "other-key", "ed25519", "somebody else's")
        (made.folder / "empty").touch()
        yield made


def over_host(**variables: object) -> str:
    return json.dumps({"mi250": {"hosts": {BAD: variables}}})


def over_service(**chat: object) -> str:
    return json.dumps({"gpu": {"vars": {"fleet": {"services": {"chat": chat}}}}})


@dataclass(frozen=True)
class Trouble:
    """`breaks` and `mends` are scripts for the bad host, `variables` its inventory's ({folder} and {keys} filled in)."""

    said: str
    next: str
    breaks: str = ""
    mends: str = ""
    variables: str = "{}"
    unreachable: bool = False


OPTIONS = "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="
TROUBLES = {
    "docker forbidden": Trouble(
        "the Docker socket may not be used by this user",
        "usermod -aG docker ops",
        variables='{"ansible_become": false}',
    ),
    "docker CLI missing": Trouble(
        "there is no docker command on the host",
        "apt-get install docker",
        breaks="mv /usr/bin/docker /usr/bin/docker.away",
        mends="mv /usr/bin/docker.away /usr/bin/docker",
    ),
    "sudo asks for a password": Trouble(
        "sudo does not let ops become root without a password",
        "set ansible_become_password, or NOPASSWD in sudoers",
        breaks="sed -i s/NOPASSWD:// /etc/sudoers.d/ops",
        mends="echo 'ops ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops",
    ),
    "wrong key": Trouble(
        "cannot log in as ops@",
        "ssh-copy-id ops@",
        variables='{"ansible_ssh_private_key_file": "%(folder)s/other-key",'
        f' "ansible_ssh_common_args": "{OPTIONS}%(keys)s/known_hosts"}}',
        unreachable=True,
    ),
    "host key unknown": Trouble(
        "is not known: ED25519 SHA256:",
        "if the fingerprint is right: --accept-new, or ssh-keyscan",
        variables=f'{{"ansible_ssh_common_args": "{OPTIONS}%(folder)s/empty"}}',
        unreachable=True,
    ),
    "host unreachable": Trouble(
        "cannot connect to [127.0.0.1]:1: Connection refused",
        "is sshd running?",
        variables='{"ansible_host": "127.0.0.1", "ansible_port": 1}',
        unreachable=True,
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_host_that_cannot_be_worked_on_is_told_and_left_alone_and_the_others_go_on(site: Site, name: str) -> None:
    trouble = TROUBLES[name]
    before = site.serving(BAD)
    places = {"folder": site.folder, "keys": site.lab.paths.keys}
    controller = site.over(over_host(**json.loads(trouble.variables % places)))
    site.sh(BAD, trouble.breaks)
    try:
        code, document = controller.ask("deploy", "--include-quarantined")
    finally:
        site.sh(BAD, trouble.mends)
    assert code == 1
    assert set(document["failed"]) == {BAD}
    failure = document["failed"][BAD]
    assert trouble.said in failure["message"]
    assert trouble.next in failure["hint"]
    assert failure["unreachable"] == trouble.unreachable
    assert document["hosts"][GOOD]["proofs"]
    assert site.serving(BAD) == before


def test_a_changed_host_key_is_told_with_both_fingerprints(site: Site) -> None:
    site.lab.break_("hostkey-changed", BAD)
    try:
        code, document = site.controller.ask("deploy", "--include-quarantined")
    finally:
        site.lab.mend(BAD)
    failure = document["failed"][BAD]
    assert (code, failure["unreachable"]) == (1, True)
    assert "has changed: it shows ED25519 SHA256:" in failure["message"]
    assert "ssh-keygen -f" in failure["hint"]


def test_a_stopped_engine_is_told_and_its_containers_come_back_with_it(site: Site) -> None:
    before = site.serving(BAD)
    site.lab.break_("docker-stopped", BAD)
    try:
        code, document = site.controller.ask("deploy", "--include-quarantined")
    finally:
        site.lab.mend(BAD)
    assert (code, set(document["failed"])) == (1, {BAD})
    assert "the Docker engine is not running" in document["failed"][BAD]["message"]
    assert "systemctl enable --now docker" in document["failed"][BAD]["hint"]
    assert document["hosts"][GOOD]["proofs"]
    assert within(30, lambda: site.serving(BAD) == before)


SECRETS = {
    "env": ({"env": "NOT_THERE"}, "$NOT_THERE is not set"),
    "file": ({"file": "/nowhere/key"}, "cannot read /nowhere/key"),
    "command": ({"command": ["sh", "-c", "echo the store is locked >&2; exit 3"]}, "`sh` exited with 3"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_missing_secret_is_bad_input_and_nothing_is_touched(site: Site, kind: str) -> None:
    reference, said = SECRETS[kind]
    before = site.serving(BAD)
    controller = site.over(over_service(secrets={"VLLM_API_KEY": reference}))
    done = controller.run("deploy")
    assert done.returncode == 2
    assert f"fleet.services.chat.secrets.VLLM_API_KEY: {said}" in done.stderr
    assert f"{controller.inventories[-1].name}:1:" in done.stderr
    assert "nothing was touched" in done.stderr
    assert ("the store is locked" in done.stderr) == (kind == "command")  # the store's own words reach the person
    assert site.serving(BAD) == before


CONTAINERS: dict[str, tuple[dict[str, object], str, str]] = {
    "exits at once": (
        {"env": {"STANDIN_FAIL": "no_hip_gpus"}},
        "RuntimeError: No HIP GPUs are available",  # seen in its log while it ends, or behind its exit code
        "Its whole log: ",
    ),
    "never ready": (
        {"env": {"STANDIN_HANG": "weights"}, "progress_deadline": 2},
        "made no progress for 2 s (progress_deadline) while loading weights 50%",
        "read its log: ",
    ),
    "ulimit refused": ({"ulimits": {"memlock": -1}}, "The engine may not raise the limit memlock", "LimitMEMLOCK"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_that_does_not_come_up_gives_way_to_the_old_one(site: Site, name: str) -> None:
    chat, said, hint = CONTAINERS[name]
    before = site.serving(BAD)
    done = site.over(over_service(**chat)).run("deploy", "--limit", BAD)
    assert done.returncode == 1
    assert said in done.stderr
    assert "chat-0 was put back and serves again" in done.stderr
    assert hint in done.stderr
    assert site.serving(BAD) == before
    assert site.containers(BAD) == {"chat-0"}


def test_a_port_that_a_process_holds_is_told_with_its_command_and_nothing_begins(site: Site) -> None:
    before = site.serving(BAD)
    site.sh(BAD, "setsid -f sh -c 'echo $$ >/run/web.pid; exec python3 -m http.server 8100' >/dev/null 2>&1; sleep 1")
    try:
        code, document = site.over(over_service(port=8100)).ask("deploy", "--limit", BAD)
    finally:
        site.sh(BAD, "kill $(cat /run/web.pid)")
    assert code == 1
    assert "port 8100 of chat is taken by pid" in document["failed"][BAD]["message"]
    assert "python3 -m http.server 8100" in document["failed"][BAD]["message"]
    assert site.serving(BAD) == before


def test_of_two_services_the_one_that_fails_leaves_the_other_serving(site: Site) -> None:
    services = {
        "chat": {"gpus": 4},
        "embed": {"model": "tiny-chat", "port": 8001, "gpus": 4, "ulimits": {}, "env": {"STANDIN_FAIL": "no_hip_gpus"}},
    }
    two = site.over(json.dumps({"gpu": {"vars": {"fleet": {"services": services}}}}))
    code, document = two.ask("deploy", "--limit", BAD)
    assert code == 1
    message = document["failed"][BAD]["message"]
    assert "nothing serves as embed-0. Done before that: chat-0" in message
    assert document["hosts"][BAD]["changed"] > 0  # chat's own steps stay
    assert site.containers(BAD) == {"chat-0"}
    assert site.serving(BAD)
