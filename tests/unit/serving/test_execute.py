"""Carrying plans out against an engine of a few methods that refuses whatever it does not know."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import docker
import docker.errors
import pytest

from fleet.errors import HostError, LostError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.serving.context import Context
from fleet.serving.execute import carry_out
from fleet.serving.follow import NewLines, stamp
from fleet.serving.steps import Change, Create, Remove, Rename, SaveLogs, ServingPlan, SetRestart, Start, Stop
from tests.unit.serving.make import built, service

SPEC = built(service()).spec
GIB = 1024**3


@dataclass
class Reply:
    stdout: str
    exit_code: int = 0
    stderr: str = ""


@dataclass
class FakeShell:
    """Answers the VRAM script with the next of `vram` (bytes used of 100 GiB on renderD128), the last one for ever."""

    vram: list[int] = field(default_factory=lambda: [0])
    asked: int = 0
    host: Host = field(default_factory=lambda: Host("n1", ("all",), Connection("n1"), Settings()))

    def run(
        self, argv: Sequence[str], *, sudo: bool = False, timeout: float | None = None, check: bool = True
    ) -> Reply:
        raise AssertionError(argv)

    def script(
        self,
        text: str,
        *,
        args: Sequence[str] = (),
        sudo: bool = False,
        timeout: float | None = None,
        check: bool = True,
    ) -> Reply:
        if "mem_info_vram_used" in text:
            self.asked += 1
            used = self.vram.pop(0) if len(self.vram) > 1 else self.vram[0]
            return Reply(f"128 {used} {100 * GIB}\n")
        assert "secrets" in text or "drained" in text
        return Reply("/var/lib/fleet\n")

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        raise AssertionError(path)

    def forward_local(self, port: int, address: str = "127.0.0.1") -> AbstractContextManager[tuple[str, int]]:
        return nullcontext((address, port))


class FakeApi:
    """Containers by name with their state; `refuse` maps a method to the words it fails with."""

    def __init__(self, **containers: str) -> None:
        self.states = {name.replace("_", "-"): state for name, state in containers.items()}
        self.refuse: dict[str, str] = {}
        self.calls: list[str] = []
        self.away = 0  # questions that find no engine

    def ping(self) -> bool:
        if self.away:
            self.away -= 1
            raise HostError("n1", "the Docker engine is not running: its socket is missing")
        return True

    def _call(self, method: str, name: str) -> None:
        self.calls.append(f"{method} {name}")
        if method in self.refuse:
            raise docker.errors.APIError("500", explanation=self.refuse[method])
        if name not in self.states:
            raise docker.errors.NotFound(f"no {name}")

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        assert options["restart_policy"] == {"Name": "no"}
        return options

    def create_container(self, **options: Any) -> dict[str, Any]:
        if "create" in self.refuse:
            raise docker.errors.ImageNotFound(self.refuse["create"])
        self.states[options["name"]] = "created"
        self.calls.append(f"create {options['name']}")
        return {"Id": "x", "Warnings": ["no swap limit"]}

    def start(self, name: str) -> None:
        self._call("start", name)
        self.states[name] = "running"

    def stop(self, name: str, timeout: int) -> None:
        assert timeout >= 60
        self._call("stop", name)
        self.states[name] = "exited"

    def rename(self, name: str, to: str) -> None:
        self._call("rename", name)
        self.states[to] = self.states.pop(name)

    def update_container(self, name: str, restart_policy: dict[str, str]) -> None:
        self._call(f"restart={restart_policy['Name']}", name)

    def remove_container(self, name: str, v: bool) -> None:
        assert v
        self._call("remove", name)
        del self.states[name]

    def inspect_container(self, name: str) -> dict[str, Any]:
        if name not in self.states:
            raise docker.errors.NotFound(f"no {name}")
        return {"Name": name, "Image": "sha256:1", "State": {"Status": self.states[name]}}

    def containers(self, all: bool) -> list[dict[str, Any]]:  # noqa: A002  docker-py's own name
        assert all
        return []

    def logs(self, name: str, **_options: Any) -> bytes:
        self._call("logs", name)
        return b"2026-11-23T00:00:00.000000001Z the key is hunter2\n"


def context(api: FakeApi, tmp_path: Path, shell: FakeShell | None = None, **options: Any) -> Context:
    images = SimpleNamespace(get=lambda _id: SimpleNamespace(attrs={}))
    client = cast("docker.DockerClient", SimpleNamespace(api=api, images=images))
    said: list[str] = options.pop("said", [])
    return Context(
        shell or FakeShell(),
        client,
        {"chat": service()},
        lambda _service: {},
        tmp_path,
        say=said.append,
        redact=lambda text: text.replace("hunter2", "***"),
        **{"sleep": lambda _seconds: None, **options},
    )


CHANGE = Change(
    "chat-0",
    "changed",
    steps=(Create(SPEC, "chat-0-new", (), "w"), Stop("chat-0", 60, "w"), Start("chat-0-new", "w")),
    commit=(Remove("chat-0", "w"), Rename("chat-0-new", "chat-0", "w")),
    undo=(
        SaveLogs("chat-0-new", "w"),
        Stop("chat-0-new", 60, "w"),
        SetRestart("chat-0", "always", "w"),
        Start("chat-0", "w"),
        Remove("chat-0-new", "w"),
    ),
)


def test_steps_and_then_the_commit_are_done_in_order(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    said: list[str] = []
    carry_out(ServingPlan((CHANGE,)), context(api, tmp_path, said=said))
    assert api.calls == ["create chat-0-new", "stop chat-0", "start chat-0-new", "remove chat-0", "rename chat-0-new"]
    assert api.states == {"chat-0": "running"}
    assert "chat-0-new: no swap limit" in said


def test_a_failing_step_is_undone_and_told_with_the_engines_words(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    api.refuse["start"] = "error setting rlimit type 8: operation not permitted"
    with pytest.raises(HostError) as caught:
        carry_out(ServingPlan((CHANGE,)), context(api, tmp_path))
    assert caught.value.message.startswith("could not start chat-0-new: error setting rlimit type 8")
    assert "Putting back did not work in full (start chat-0" in caught.value.message  # the engine starts nothing at all
    assert "ulimits.memlock" in caught.value.hint
    assert api.states == {"chat-0": "exited"}
    assert (tmp_path / "n1-chat-0-new.log").read_text().endswith("the key is ***\n")


def test_what_served_is_back_after_a_failure(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError, match=r"could not rename missing to x: .*chat-0 was put back and serves again"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path))
    assert api.states == {"chat-0": "running"}


def test_a_log_that_cannot_be_kept_spoils_no_putting_back(tmp_path: Path) -> None:
    api, guard, said = FakeApi(chat_0="running"), Guard(), list[str]()
    (tmp_path / "n1-chat-0-new.log").mkdir()
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError, match=r"chat-0 was put back and serves again"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path, guard=guard, said=said))
    assert any("the log of chat-0-new could not be kept" in line for line in said)
    assert guard.said == ["arm", "disarm"]


def test_an_engine_that_starts_again_is_waited_for_before_anything_is_put_back(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    api.away = 5
    said: list[str] = []
    naps: list[float] = []
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError, match=r"chat-0 was put back and serves again"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path, said=said, sleep=naps.append))
    assert len(naps) == 5
    assert sum("waiting up to 60 s" in line for line in said) == 1


def test_what_served_is_back_although_somebody_removed_the_new_container(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    steps = (*CHANGE.steps, Remove("chat-0-new", "by hand"), Rename("chat-0-new", "x", "w"))
    failing = Change(CHANGE.name, "w", steps, CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError, match=r"chat-0 was put back and serves again"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path))
    assert api.states == {"chat-0": "running"}


class Guard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def check(self) -> None: ...

    def arm(self, undo: object) -> None:
        self.said.append("arm")

    def disarm(self) -> None:
        self.said.append("disarm")

    def leave(self) -> None:
        self.said.append("leave")


@pytest.mark.parametrize(("refused", "said"), [("rename", ["arm", "disarm"]), ("start", ["arm", "leave"])])
def test_a_host_that_we_cannot_put_right_is_left_to_do_that_by_itself(
    tmp_path: Path, refused: str, said: list[str]
) -> None:
    api, guard = FakeApi(chat_0="running"), Guard()
    api.refuse[refused] = "no"
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("chat-0-new", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError):
        carry_out(ServingPlan((failing,)), context(api, tmp_path, guard=guard))
    assert guard.said == said


def test_an_engine_that_stays_silent_is_asked_for_no_step_and_the_host_is_left_to_put_back_by_itself(
    tmp_path: Path,
) -> None:
    api, guard = FakeApi(chat_0="running"), Guard()
    api.away = 10_000
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    moments = iter(range(0, 1000, 20))
    with pytest.raises(HostError, match=r"in full \(the Docker engine does not answer\); the host goes on"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path, guard=guard, clock=lambda: next(moments)))
    assert api.calls == ["create chat-0-new", "stop chat-0", "start chat-0-new", "rename missing"]
    assert guard.said == ["arm", "leave"]


class LostApi(FakeApi):
    """The link goes as the new container is renamed."""

    def ping(self) -> bool:
        raise LostError("n1", "the connection was lost during `docker system dial-stdio`")


def test_over_a_lost_link_nothing_is_waited_for_and_the_host_puts_back_by_itself(tmp_path: Path) -> None:
    api, guard, naps = LostApi(chat_0="running"), Guard(), list[float]()
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(HostError, match=r"in full \(the connection to the host is lost\); the host goes on"):
        carry_out(ServingPlan((failing,)), context(api, tmp_path, guard=guard, sleep=naps.append))
    assert (guard.said, naps) == (["arm", "leave"], [])


class LostGuard(Guard):
    """The lock is found lost once the new container was to be renamed, as after a controller that stood still."""

    def __init__(self, api: FakeApi) -> None:
        super().__init__()
        self.api = api

    def check(self) -> None:
        if "rename missing" in self.api.calls:
            raise HostError("n1", "lost the lock of n1: its lease ended", hint="look with `invoke status`")


def test_after_a_lost_lock_that_is_said_first_and_nothing_is_put_back_from_here(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    guard, said = LostGuard(api), list[str]()
    failing = Change(CHANGE.name, "w", (*CHANGE.steps, Rename("missing", "x", "w")), CHANGE.commit, CHANGE.undo)
    with pytest.raises(
        HostError, match=r"^lost the lock of n1: its lease ended\. Seen last, .*rename missing"
    ) as caught:
        carry_out(ServingPlan((failing,)), context(api, tmp_path, guard=guard, said=said))
    assert (caught.value.hint, guard.said) == ("look with `invoke status`", ["arm", "leave"])
    assert api.calls == ["create chat-0-new", "stop chat-0", "start chat-0-new", "rename missing"]
    assert not any("undo" in line for line in said)


def test_nothing_is_undone_when_nothing_could_be_created(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    api.refuse["create"] = "no such image: vllm-rocm:r1"
    with pytest.raises(HostError, match="Nothing else was changed") as caught:
        carry_out(ServingPlan((CHANGE,)), context(api, tmp_path))
    assert "delivered first" in caught.value.hint
    assert api.calls == []


def test_a_failing_commit_is_left_to_the_next_run(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running")
    api.refuse["rename"] = "busy"
    with pytest.raises(HostError, match="could not rename chat-0-new to chat-0: busy"):
        carry_out(ServingPlan((CHANGE,)), context(api, tmp_path))
    assert api.states == {"chat-0-new": "running"}


def test_cancelling_ends_before_the_next_step_and_puts_back(tmp_path: Path) -> None:
    api = FakeApi(chat_0="running", chat_0_new="created")
    made = context(api, tmp_path)
    made.cancelled.set()
    with pytest.raises(HostError, match="interrupted before: create chat-0-new"):
        carry_out(ServingPlan((CHANGE,)), made)
    assert api.states == {"chat-0": "running"}
    assert made.cancelled.is_set()


class InterruptedApi(FakeApi):
    """Ctrl-C comes in the middle of the first start."""

    def start(self, name: str) -> None:
        if "start chat-0-new" not in self.calls:
            self.calls.append("start chat-0-new")
            raise KeyboardInterrupt
        super().start(name)


def test_ctrl_c_puts_back_too(tmp_path: Path) -> None:
    api = InterruptedApi(chat_0="running")
    with pytest.raises(KeyboardInterrupt):
        carry_out(ServingPlan((CHANGE,)), context(api, tmp_path))
    assert api.states == {"chat-0": "running"}


def test_a_plan_with_problems_is_refused_before_its_first_step(tmp_path: Path) -> None:
    api = FakeApi()
    with pytest.raises(HostError, match="port 8000 is taken"):
        carry_out(ServingPlan((CHANGE,), problems=("port 8000 is taken",)), context(api, tmp_path))
    assert api.calls == []


def test_engines_times_sort_as_text() -> None:
    assert stamp("2026-11-23T01:00:00.12Z") == "2026-11-23T01:00:00.120000000"
    assert stamp("2026-11-23T01:00:00Z") < stamp("2026-11-23T01:00:00.000000001Z")


def test_log_lines_come_once_and_only_from_this_life() -> None:
    pages = iter(
        [
            b"2026-11-23T01:00:00.000000005Z old life\n2026-11-23T01:00:01.5Z one\n",
            b"2026-11-23T01:00:01.500000000Z one\n2026-11-23T01:00:01.6Z two\n",
        ]
    )
    client = cast("docker.DockerClient", SimpleNamespace(api=SimpleNamespace(logs=lambda _name, **_: next(pages))))
    lines = NewLines(client, "chat-0")
    assert lines.read("0001-01-01T00:00:00Z") == []
    assert lines.read("2026-11-23T01:00:01Z") == ["one"]
    assert lines.read("2026-11-23T01:00:01Z") == ["two"]


def test_a_progress_bar_is_one_entry_whose_pieces_have_no_time_of_their_own() -> None:
    page = b"2026-11-23T01:00:02Z \rLoading: 0%\rLoading: 50%\n2026-11-23T01:00:03Z done\n"
    client = cast("docker.DockerClient", SimpleNamespace(api=SimpleNamespace(logs=lambda _name, **_: page)))
    lines = NewLines(client, "chat-0")
    assert [line for line in lines.read("2026-11-23T01:00:01Z") if line] == ["Loading: 0%", "Loading: 50%", "done"]
    assert lines.read("2026-11-23T01:00:01Z") == []
