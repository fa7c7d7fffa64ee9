"""Hooks of the inventory, run for real: on this machine, and on a host over a real connection."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from fleet.errors import HostError
from fleet.inventory.settings import Settings
from fleet.serving import routing
from fleet.serving.context import Context
from fleet.serving.prepare import context_for
from fleet.serving.steps import DrainBack, DrainOut, Hook
from fleet.transport import Session

if TYPE_CHECKING:
    import docker

pytestmark = pytest.mark.usefixtures("state_dir")
TELL = 'echo "$FLEET_HOST $FLEET_ADDRESS:$FLEET_PORT $FLEET_SERVICE $FLEET_REPLICA $FLEET_RELEASE" >"$0"'


@pytest.fixture
def context(session: Session, tmp_path: Path) -> Context:
    return context_for(session, cast("docker.DockerClient", None), Settings(), log_dir=tmp_path)


def hook(*argv: str, where: str = "controller", timeout: float = 10) -> Hook:
    return Hook(argv, where, timeout, "chat", "chat-0", 8000, "r1")


@pytest.mark.parametrize("where", ["controller", "host"])
def test_a_hook_runs_without_a_shell_and_is_told_which_replica(context: Context, tmp_path: Path, where: str) -> None:
    told = tmp_path / "it's $HOME; told"
    routing.take_out(DrainOut(hook("sh", "-c", TELL, str(told), where=where), "w"), context)
    name, address = context.name, context.session.host.connection.address
    assert told.read_text() == f"{name} {address}:8000 chat chat-0 r1\n"


@pytest.mark.parametrize("where", ["controller", "host"])
def test_a_failing_hook_is_told_with_its_exit_code_and_the_end_of_its_output(context: Context, where: str) -> None:
    lines = "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; echo bad >&2; exit 3"
    with pytest.raises(HostError, match=r"could not be taken out of its router: .* exited with 3") as caught:
        routing.take_out(DrainOut(hook("sh", "-c", lines, where=where), "w"), context)
    assert "bad" in caught.value.tail
    assert len(caught.value.tail) <= routing.TAIL


def test_a_hook_that_is_not_there_is_told(context: Context) -> None:
    with pytest.raises(HostError, match="`no-such-router out` on this controller could not be started: No such file"):
        routing.take_out(DrainOut(hook("no-such-router", "out"), "w"), context)


@pytest.mark.parametrize("where", ["controller", "host"])
def test_a_hook_that_hangs_is_ended_with_its_time(context: Context, where: str) -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match="serves, but could not be put back") as caught:
        routing.put_back(DrainBack(hook("sh", "-c", "sleep 60 & sleep 60", where=where, timeout=1), "w"), context)
    assert time.monotonic() - began < 15
    assert "by hand: " in caught.value.hint


def test_a_hook_reads_nothing_of_ours(context: Context) -> None:
    code = "import sys; sys.exit(bool(sys.stdin.read()))"
    routing.take_out(DrainOut(hook(sys.executable, "-c", code), "w"), context)
