"""Ctrl-C at any moment: exit 130, one message, nothing half done, what served before serves, and no helper stays."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.cli import Controller
from tests.lab.conftest import MI300X, REGISTRY
from tests.lab.rolls import answers, within
from tests.lab.small import Site, small_site
from tests.proc import working_in

pytestmark = pytest.mark.lab

HOST = MI300X.name
SLOW = "{gpu: {vars: {fleet: {services: {chat: {env: {STANDIN_START_SECONDS: '%d', ROUND: '%s'}}}}}}}"
SURVEY = ""  # nothing is said yet


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with small_site("int", tmp_path_factory.mktemp("interrupts"), REGISTRY, MI300X) as made:
        assert made.controller.run("push").returncode == 0
        yield made


def slow(site: Site, moment: str) -> Controller:
    """A new container for each moment; where it is to be caught starting, a busy machine must not let it answer first."""
    return site.over(SLOW % (3 if moment.startswith("verify") else 30, moment.partition(" ")[0]))


def connects(pid: int) -> bool:
    """Whether the command has opened a socket: its programs are read, and its hosts are being asked."""
    files = Path(f"/proc/{pid}/fd").iterdir()
    with suppress(FileNotFoundError):  # closed meanwhile
        return any(str(file.readlink()).startswith("socket:") for file in files)
    return False


def interrupt(controller: Controller, moment: str, *, twice: bool = False) -> tuple[int, str]:
    """Begin a deploy, press Ctrl-C once `moment` is said: exit code and all of standard error."""
    process = controller.start("deploy")
    assert process.stderr is not None
    said = ""
    if not moment:
        assert within(60, lambda: connects(process.pid), every=0.02)
    while moment and moment not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    if twice:
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    return process.returncode, said + rest


def check_message(site: Site, code: int, said: str) -> None:
    assert code == 130, said
    assert said.count("interrupted;") == 1
    assert "Traceback" not in said
    assert "Exception" not in said
    assert working_in(site.controller.directory) == []


@pytest.mark.parametrize("moment", [SURVEY, "pull ", "create chat-0-new", "wait until chat-0-new", "verify chat-0-new"])
def test_a_first_deploy_that_is_interrupted_leaves_nothing_half_done(site: Site, moment: str) -> None:
    site.sh(HOST, "docker ps -aq | xargs -r docker rm -f; docker images -q | xargs -r docker rmi -f")
    code, said = interrupt(slow(site, moment), moment)
    check_message(site, code, said)
    assert site.containers(HOST) in (set(), {"chat-0"})


def test_the_same_command_goes_on_from_there(site: Site) -> None:
    code, document = site.controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})


@pytest.mark.parametrize("moment", [SURVEY, "create chat-0-new", "stop chat-0", "wait until chat-0-new", "verify chat"])
def test_a_replacing_deploy_that_is_interrupted_leaves_the_old_one_serving(site: Site, moment: str) -> None:
    before = site.serving(HOST)
    code, said = interrupt(slow(site, moment), moment)
    check_message(site, code, said)
    assert site.containers(HOST) == {"chat-0"}
    if not moment.startswith("verify"):  # by then it may have answered
        assert site.serving(HOST) == before
    assert within(20, lambda: answers(site.lab.topology.address(HOST)))


def test_a_second_ctrl_c_ends_at_once_and_the_next_deploy_mends(site: Site) -> None:
    code, said = interrupt(slow(site, "wait until chat-0-new"), "wait until chat-0-new", twice=True)
    assert code == 130
    assert "Traceback" not in said
    assert "was put back and serves again" not in said  # that was not waited for: the host does it by itself
    code, document = site.controller.ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert site.containers(HOST) == {"chat-0"}


def test_ctrl_c_ends_followed_logs_and_leaves_no_helper_here(site: Site) -> None:
    process = site.controller.start("logs", "chat", "--follow")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"{HOST}: ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert working_in(site.controller.directory) == []


def test_endpoints_are_told_as_json_and_for_prometheus(site: Site) -> None:
    address = site.lab.topology.address(HOST)
    code, found = site.controller.ask("endpoints")
    assert code == 0
    assert [(one["url"], one["healthy"]) for one in found] == [(f"http://{address}:8000/v1", True)]
    code, found = site.controller.ask("endpoints", "--prometheus")
    assert code == 0
    assert found[0]["targets"] == [f"{address}:8000"]
    assert found[0]["labels"]["service"] == "chat"


def test_what_was_stopped_is_no_endpoint_and_serve_starts_the_same_container_again(site: Site) -> None:
    assert site.controller.run("deploy").returncode == 0
    before = site.serving(HOST)
    assert site.controller.run("stop", "--service", "chat").returncode == 0
    assert site.serving(HOST) == ""
    assert site.controller.ask("endpoints") == (0, [])
    assert site.controller.run("serve").returncode == 0
    assert site.serving(HOST) == before
