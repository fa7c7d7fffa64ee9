"""What hangs is ended with its children, on the machine where it runs; what says something may take as long as it likes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.image import source as sources
from fleet.image.build import BuildError
from fleet.image.build_plan import Command
from fleet.image.cancel import cancellable
from fleet.image.lock import Lock
from fleet.image.machine import NOTHING, Here
from fleet.image.produce import produce
from fleet.image.smoke import Said, SmokeError, smoke
from fleet.image.watch import StalledError
from fleet.inventory.settings import Source
from fleet.transport import Output
from tests.lab.rolls import within
from tests.tools.test_produce import Docker, repository, spec, workshop

__all__ = ["repository"]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        return False


def test_a_silent_command_is_ended_with_its_children(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "echo begun; sleep 300 & echo $! > child; trap '' TERM; wait; sleep 300"
    with pytest.raises(StalledError, match="sh said nothing for 1 s and was ended"):
        Here().stream(("sh", "-c", f"cd {tmp_path}; {script}"), lines.append, stall=1)
    assert lines == ["begun"]
    child = int((tmp_path / "child").read_text())
    assert not alive(child)


def test_a_command_that_speaks_runs_to_its_end_with_all_it_said_and_its_exit_code() -> None:
    done = Here().run(("sh", "-c", "for i in 1 2 3 4 5; do echo out$i; sleep 0.5; done; echo err >&2; exit 7"), stall=2)
    assert done == Output(7, "".join(f"out{number}\n" for number in range(1, 6)), "err\n")
    lines: list[str] = []
    code = Here().stream(("sh", "-c", "printf '%s\\n' \"$A\" last"), lines.append, environment={"A": "a b"}, stall=2)
    assert (code, lines) == (0, ["a b", "last"])
    assert Here().run(("no-such-program",), stall=2).exit_code == 127


def test_what_is_interrupted_ends_on_the_machine_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    seen: list[int] = []

    def stop(line: str) -> None:
        seen.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Here().stream(("sh", "-c", "echo $$; exec sleep 300"), stop, stall=60)
    until = time.monotonic() + 10
    while (alive(seen[0]) or list(tmp_path.iterdir())) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(seen[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stall", [0, 60])
def test_what_a_killed_process_waited_for_ends_with_it(tmp_path: Path, stall: float) -> None:
    script = f"""
from fleet.image.machine import Here
Here().stream(("sh", "-c", "echo $$; exec sleep 300"), lambda line: print(line, flush=True), stall={stall})
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen((sys.executable, "-c", script), stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.kill()
    until = time.monotonic() + 10
    while (alive(pid) or list(tmp_path.iterdir())) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_git_server_that_never_answers_is_given_up_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "STALL", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = Source(ref="main", repository=f"git://127.0.0.1:{server.getsockname()[1]}/vllm")
        with pytest.raises(FleetError, match=r"asking git://.* for its refs: git ls-remote said nothing for 1 s"):
            sources.resolve(source)


class Hangs(Docker):
    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        assert ("docker" in argv, stall, stdin) == (True, 3600.0, b"")
        on_line("#9 [build 3/7] RUN python3 setup.py")
        raise StalledError("docker on builder", stall)


def test_a_build_that_hangs_is_a_failed_build_that_says_how_long(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"on builder said nothing for 60 minutes and was ended.*setup.py") as caught:
        produce(spec(repository), workshop(tmp_path / "fleet", Hangs()), Lock(), gfx=())
    assert caught.value.key
    assert "source.stall" in caught.value.hint


class Cancelled(Docker):
    """A builder whose login is in the docker group, and an operator who types Ctrl-C."""

    def __init__(self) -> None:
        super().__init__()
        self.user = 1000

    def stream(self, *_asked: Any, **_given: Any) -> int:
        raise KeyboardInterrupt


def test_whoever_cancels_a_build_is_told_of_a_step_that_only_root_can_end(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        produce(spec(repository), workshop(tmp_path / "fleet", Cancelled()), Lock(), gfx=())
    (note,) = caught.value.__notes__
    assert "builder: the RUN step that was under way may go on to its end: ending it takes root there" in note


def test_a_step_that_outlives_its_cancelled_build_is_ended(tmp_path: Path) -> None:
    """As with BuildKit: the step is no child of the command, and in a PID namespace of its own."""
    docker = tmp_path / "docker"
    docker.write_text(
        f"#!/bin/sh\nsetsid unshare --fork --pid sh -c 'echo $$ >{tmp_path}/inside; exec sleep 300' &\n"
        f"echo $! >{tmp_path}/step\nexec sleep 300\n"
    )
    docker.chmod(0o755)
    asked = cancellable(
        Command((str(docker), "buildx", "build", "."), {"no_proxy": "corp"}), "fleet-build-of-this-test"
    )
    with subprocess.Popen(asked.argv, env={**os.environ, **asked.environment}) as build:
        assert within(20, (tmp_path / "inside").is_file)
        build.terminate()
        assert build.wait() == 129
    step = int((tmp_path / "step").read_text())
    assert within(20, lambda: not alive(step))


class Silent(Here):
    """A builder whose container hangs."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        words = tuple(argv)
        self.asked.append(words)
        if words[1] == "run":
            raise StalledError("docker on builder", stall)
        return Output(0, "", "")


def test_a_smoke_test_that_hangs_fails_and_its_container_goes() -> None:
    machine = Silent()
    with pytest.raises(SmokeError, match="said nothing for 30 minutes and was ended"):
        smoke(machine, "vllm:build-k", (), Said())
    run, removed = machine.asked
    assert removed == ("docker", "rm", "--force", run[run.index("--name") + 1])
