"""Requests are kept away from a replica that is about to be stopped, and come back once it has answered."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HostError
from fleet.inventory.settings import Drain, Settings
from fleet.rollout.switch import commands
from fleet.seam import Described
from fleet.serving import routing
from fleet.serving.draining import Drains
from fleet.serving.execute import carry_out
from fleet.serving.inspection import Inspection
from fleet.serving.plan import plan, plan_stop
from fleet.serving.spec import ContainerSpec
from fleet.serving.steps import DrainBack, DrainIdle, DrainOut, ServingPlan, Stop
from tests.unit.serving.make import built, image, service, serving
from tests.unit.serving.simulator import Engine, Killed
from tests.unit.serving.test_execute import FakeApi, context

DRAIN = Drain(("lb", "out"), ("lb", "back"), limit=5)
DRAINS = Drains(DRAIN)
OLD = built(service(), of=image("r1")).spec
NEW = built(service(), of=image("r2")).spec


def words(made: ServingPlan) -> list[str]:
    return [step.what for change in made.changes for step in (*change.steps, *change.commit)]


def again(engine: Engine, *wanted: ContainerSpec) -> ServingPlan:
    return plan(wanted, engine.containers.values(), written=frozenset(engine.written), drains=DRAINS)


def test_out_comes_before_anything_is_touched_and_back_when_the_new_one_has_answered_and_before_its_name() -> None:
    assert words(plan([NEW], [serving(OLD)], drains=DRAINS)) == [
        "take chat-0 out of its router: `lb out` on this controller",
        "wait until chat-0 has no requests under way (at most 5 s)",
        "create chat-0-new from vllm-rocm:r2",
        "set restart=no on chat-0",
        "stop chat-0 (grace 60 s)",
        "wait until VRAM is free on all GPUs",
        "start chat-0-new",
        "wait until chat-0-new is ready",
        "verify chat-0-new by a real answer on port 8000",
        "write down that chat-0 answers with r2",
        "set restart=unless-stopped on chat-0-new",
        "put chat-0 back into its router: `lb back` on this controller",
        "rename chat-0 to chat-0-previous",
        "rename chat-0-new to chat-0",
    ]


def test_a_replica_that_an_earlier_run_left_out_of_its_router_is_put_back_when_it_has_answered() -> None:
    left = plan([OLD], [serving(OLD)], drains=DRAINS, drained=frozenset({"chat-0"}))
    assert words(left) == [
        "wait until chat-0 is ready",
        "verify chat-0 by a real answer on port 8000",
        "put chat-0 back into its router: `lb back` on this controller",
    ]
    assert words(plan([OLD], [serving(OLD)], drains=DRAINS)) == []
    assert words(plan([OLD], [serving(OLD)], drained=frozenset({"chat-0"}))) == []  # there is no router any more


def test_hooks_are_told_the_release_that_goes_and_the_one_that_comes() -> None:
    change = plan([NEW], [serving(OLD)], drains=DRAINS).changes[0]
    hooks = [
        step.hook for step in (*change.steps, *change.commit, *change.undo) if isinstance(step, DrainOut | DrainBack)
    ]
    assert [(hook.replica, hook.port, hook.release) for hook in hooks] == [
        ("chat-0", 8000, "r1"),
        ("chat-0", 8000, "r2"),
        ("chat-0", 8000, "r1"),  # put back
    ]


def test_a_replica_that_is_right_is_left_in_its_router() -> None:
    assert plan([NEW], [serving(NEW)], drains=DRAINS).changes == ()


def test_a_first_replica_and_a_stopped_one_come_into_the_router_when_they_have_answered() -> None:
    assert "put chat-0 back into its router: `lb back` on this controller" in words(plan([NEW], [], drains=DRAINS))
    stopped = words(plan([NEW], [serving(NEW, state="exited")], drains=DRAINS))
    assert stopped[-1] == "put chat-0 back into its router: `lb back` on this controller"
    assert not any("take chat-0 out" in line for line in stopped)


def test_stop_drains_too() -> None:
    assert words(plan_stop([serving(NEW)], frozenset(), DRAINS)) == [
        "take chat-0 out of its router: `lb out` on this controller",
        "wait until chat-0 has no requests under way (at most 5 s)",
        "stop chat-0 (grace 60 s)",
        "wait until VRAM is free on all GPUs",
    ]


def test_a_services_own_hooks_replace_those_of_all() -> None:
    own = Drain(("own", "out"), ("own", "back"), where="host")
    settings = Settings(drain=DRAIN, services={"chat": replace(service(), drain=own), "other": service("other")})
    drains = Drains.of_settings(settings)
    assert drains.of("chat") == own
    assert drains.of("other") == DRAIN
    assert "`own out` on the host" in words(plan([NEW], [serving(OLD)], drains=drains))[0]
    assert Drains.of_settings(Settings()).of("chat") is None


def test_a_failed_new_one_leaves_the_old_one_in_its_router() -> None:
    engine = Engine(sick=lambda one: one.image_id == NEW.image.config_digest, routed={"chat-0"}).put(serving(OLD))
    assert engine.run(again(engine, NEW)) == ["chat-0"]
    assert engine.routed == {"chat-0"}
    assert engine.containers["chat-0"].state == "running"


@pytest.mark.parametrize("step", range(13))
def test_wherever_a_controller_is_killed_the_next_run_ends_with_the_replica_in_its_router(step: int) -> None:
    engine = Engine(routed={"chat-0"}, steps_left=step).put(serving(OLD))
    with contextlib.suppress(Killed):
        engine.run(again(engine, NEW))
    engine.steps_left = 1_000
    engine.run(again(engine, NEW))
    assert engine.routed == {"chat-0"}
    assert again(engine, NEW).changes == ()


def test_what_a_host_does_by_itself_holds_no_hook() -> None:
    undo = plan([NEW], [serving(OLD)], drains=DRAINS).changes[0].undo
    assert any(isinstance(step, DrainBack) for step in undo)
    assert all("lb" not in command for command in commands(undo))


# Carrying out


class Hooks:
    """Every hook that ran, in order with the engine's calls; those named in `fail` fail."""

    def __init__(self, api: FakeApi, *fail: str) -> None:
        self.api, self.fail = api, fail

    def __call__(self, hook: Any, _context: object) -> tuple[str, tuple[str, ...]] | None:
        self.api.calls.append(" ".join(hook.argv))
        return ("`lb` exited with 3", ("no such backend",)) if hook.argv[-1] in self.fail else None


class Order:
    """A seam that does every step but those that ask the network, and fails at one of a kind."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.steps: list[str] = []

    def perform(self, _host: str, step: Described, do: Any) -> None:
        self.steps.append(step.what)
        if self.fails and re.match(self.fails, step.what):
            raise HostError("n1", "it is sick")
        if not step.what.startswith(("wait", "verify", "watch")):
            do()


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: ServingPlan, *fail: str, sick: str = ""
) -> tuple[FakeApi, HostError | None]:
    api = FakeApi(chat_0="running")
    monkeypatch.setattr(routing, "_run", Hooks(api, *fail))
    try:
        carry_out(made, context(api, tmp_path, seam=Order(sick)))
    except HostError as error:
        return api, error
    return api, None


def roll(found: Sequence[Inspection] = (serving(OLD),)) -> ServingPlan:
    return plan([NEW], found, drains=DRAINS)


def test_a_good_roll_calls_out_first_and_back_before_the_old_one_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api, error = run(monkeypatch, tmp_path, roll())
    assert error is None
    assert api.calls[0] == "lb out"
    assert api.calls.index("lb back") < api.calls.index("rename chat-0")


def test_a_failing_out_hook_touches_nothing_and_is_undone_by_its_counterpart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api, error = run(monkeypatch, tmp_path, roll(), "out")
    assert error is not None
    assert error.message.startswith("chat-0 could not be taken out of its router: `lb` exited with 3")
    assert error.message.endswith("Nothing else was changed")
    assert error.tail == ("no such backend",)
    assert api.calls == ["lb out", "lb back"]
    assert api.states == {"chat-0": "running"}


def test_a_failing_back_hook_fails_the_host_and_leaves_the_new_one_running_with_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api, error = run(monkeypatch, tmp_path, roll(), "back")
    assert error is not None
    assert "chat-0 serves, but could not be put back into its router" in error.message
    assert "env FLEET_HOST=n1 FLEET_ADDRESS=n1 FLEET_PORT=8000 FLEET_SERVICE=chat FLEET_REPLICA=chat-0" in error.hint
    assert error.hint.endswith("lb back")
    assert api.states == {"chat-0": "exited", "chat-0-new": "running"}


def test_what_was_put_back_is_put_into_its_router_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api, error = run(monkeypatch, tmp_path, roll(), sick="verify chat-0-new")
    assert error is not None
    assert error.message.endswith("chat-0 was put back and serves again")
    assert [call for call in api.calls if call.startswith("lb")] == ["lb out", "lb back"]
    assert api.calls.index("start chat-0") < api.calls.index("lb back")


def test_an_old_one_that_does_not_serve_again_gets_no_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api, error = run(monkeypatch, tmp_path, roll(), sick="wait until .* is ready")
    assert error is not None
    assert "lb back" not in api.calls
    assert "chat-0 is out of its router; once it serves: env FLEET_HOST=n1" in error.message


def test_a_stop_that_the_engine_refuses_puts_the_running_replica_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = plan_stop([serving(OLD)], frozenset(), DRAINS)
    api, error = run(monkeypatch, tmp_path, made, sick="stop chat-0")
    assert error is not None
    assert api.calls == ["lb out", "lb back"]
    assert error.message == "it is sick. Nothing else was changed"


# Waiting for what is under way


def idle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *loads: int | None, limit: float = 10
) -> tuple[list[str], list[int | None]]:
    left, said, now = list(loads), list[str](), [0.0]

    def look(_address: str, _port: int) -> int | None:
        return left.pop(0)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(routing, "under_way", look)
    made = context(FakeApi(), tmp_path, said=said, clock=lambda: now[0], sleep=sleep)
    routing.wait_idle(DrainIdle("chat-0", "chat", 8000, limit, "w"), made)
    return said, left


def test_a_replica_is_idle_when_two_looks_find_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert idle(monkeypatch, tmp_path, 3, 3, 1, 0, 1, 0, 0, 99)[1] == [99]


def test_the_limit_ends_the_wait_and_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said, _ = idle(monkeypatch, tmp_path, *[2] * 50, limit=3)
    assert said == ["chat-0: 2 requests under way", "chat-0 still has 2 requests under way after 3 s: not waited for"]


def test_a_server_that_tells_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "not waited for" in idle(monkeypatch, tmp_path, None)[0][0]


def test_metrics_count_running_and_waiting_requests_of_all_engines() -> None:
    text = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="a b"} 3.0
vllm:num_requests_running{engine="1",model_name="a b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a b"} 2.0
vllm:num_requests_waiting_by_reason{engine="0"} 7.0
vllm:prompt_tokens_total 100.0
"""
    assert routing.in_metrics(text) == 6


def test_nothing_is_stopped_before_it_was_drained() -> None:
    steps = plan([NEW], [serving(OLD)], drains=DRAINS).changes[0].steps
    kinds = [type(step) for step in steps]
    assert kinds.index(DrainOut) < kinds.index(DrainIdle) < kinds.index(Stop)
