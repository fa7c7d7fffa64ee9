"""One story for both engines: the lab's stand-in, and the real vLLM on CPU. Neither knows which one it is."""

from collections.abc import Iterator

import pytest

from fleet.lab import Lab
from fleet.lab.topology import ENGINES
from tests.lab.cli import Controller
from tests.lab.conftest import lab_name

pytestmark = pytest.mark.vllm

HOST = "mi300x-01"
START = 1800  # seconds: the real one compiles, for minutes where others want the cores too


@pytest.fixture(scope="module", params=ENGINES)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("real")
    try:
        yield Lab.up(name, engine=request.param, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture(scope="module")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"), (lab.inventory,))


def test_deploy_ends_with_an_answer(controller: Controller) -> None:
    code, document = controller.ask("deploy", "--limit", HOST, timeout=START)
    assert (document["failed"], code) == ({}, 0)
    assert document["hosts"][HOST]["changed"] > 0
    assert document["hosts"][HOST]["proofs"]["chat-0"]["answer"].strip()


def test_verify_says_the_same_again(controller: Controller) -> None:
    done = controller.run("verify", "--limit", HOST)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_second_deploy_changes_nothing(controller: Controller) -> None:
    code, document = controller.ask("deploy", "--limit", HOST, timeout=START)
    assert (document["failed"], code) == ({}, 0)
    assert document["hosts"][HOST]["changed"] == 0


def test_it_stops_when_it_is_asked_and_starts_again(lab: Lab, controller: Controller) -> None:
    assert controller.run("stop", "--limit", HOST).returncode == 0
    state = lab.node(HOST).exec(("docker", "inspect", "-f", "{{.State.Running}} {{.State.OOMKilled}}", "chat-0"))
    assert state.stdout == "false false\n"
    code, document = controller.ask("deploy", "--limit", HOST, timeout=START)
    assert (document["failed"], code) == ({}, 0)
    assert controller.run("verify", "--limit", HOST).returncode == 0
