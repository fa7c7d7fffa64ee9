import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.inventory.settings import Service
from fleet.secret import Secret
from fleet.serving.inspection import CANDIDATE, Held, Inspection, predict, replica_of
from fleet.serving.plan import plan, plan_stop
from fleet.serving.spec import ContainerSpec
from fleet.serving.steps import Remember, Remove, Rename, ServingPlan, SetRestart, Start, Stop, Verify
from tests.unit.serving.make import built, image, service, serving, specs, stranger
from tests.unit.serving.simulator import Engine, Killed

OLD = built(service(), of=image("r1")).spec
NEW = built(service(), of=image("r2")).spec


def words(made: ServingPlan) -> list[str]:
    return [step.what for change in made.changes for step in (*change.steps, *change.commit)]


def again(engine: Engine, *wanted: ContainerSpec, prune: bool = False) -> ServingPlan:
    return plan(wanted, engine.containers.values(), written=frozenset(engine.written), prune=prune)


def test_a_first_deploy_creates_proves_and_only_then_takes_the_name() -> None:
    made = plan([NEW], [])
    assert words(made) == [
        "create chat-0-new from vllm-rocm:r2",
        "start chat-0-new",
        "wait until chat-0-new is ready",
        "verify chat-0-new by a real answer on port 8000",
        "write down that chat-0 answers with r2",
        "set restart=unless-stopped on chat-0-new",
        "rename chat-0-new to chat-0",
    ]
    assert not made.replaces


def test_a_changed_service_holds_and_stops_the_old_one_after_the_new_one_could_be_created() -> None:
    made = plan([NEW], [serving(OLD)])
    assert words(made) == [
        "create chat-0-new from vllm-rocm:r2",
        "set restart=no on chat-0",
        "stop chat-0 (grace 60 s)",
        "wait until VRAM is free on all GPUs",
        "start chat-0-new",
        "wait until chat-0-new is ready",
        "verify chat-0-new by a real answer on port 8000",
        "write down that chat-0 answers with r2",
        "set restart=unless-stopped on chat-0-new",
        "rename chat-0 to chat-0-previous",
        "rename chat-0-new to chat-0",
    ]
    assert made.replaces
    assert "image: r1" in made.changes[0].why


def test_the_same_container_is_left_alone_with_a_reason() -> None:
    made = plan([NEW], [serving(NEW)])
    assert made == ServingPlan((), ("chat-0: runs r2 as wanted",))


def test_a_failing_new_container_brings_the_old_one_back_as_it_was() -> None:
    engine = Engine(sick=lambda one: one.image_id == NEW.image.config_digest).put(serving(OLD))
    assert engine.run(again(engine, NEW)) == ["chat-0"]
    assert list(engine.containers.values()) == [serving(OLD)]


def test_a_failing_new_container_does_not_start_an_old_one_that_was_down() -> None:
    engine = Engine(sick=lambda one: one.image_id == NEW.image.config_digest).put(serving(OLD, state="exited"))
    engine.run(again(engine, NEW))
    assert engine.containers["chat-0"].state == "exited"


KEPT = serving(OLD, name="chat-0-previous", restart="no", state="exited")


def test_only_the_release_before_is_kept_and_a_change_of_settings_alone_keeps_it() -> None:
    third = built(service(), of=image("r3")).spec
    changed = built(service(env={"A": "1"}), of=image("r3")).spec
    engine = Engine().put(serving(OLD))
    for wanted, kept in ((NEW, OLD), (third, NEW), (changed, NEW)):
        assert not engine.run(again(engine, wanted))
        assert sorted(engine.containers) == ["chat-0", "chat-0-previous"]
        assert engine.containers["chat-0-previous"].labels["io.fleet.spec"] == kept.hash
        assert again(engine, wanted).changes == ()
        assert again(engine, wanted, prune=True).changes == ()


def test_going_back_starts_the_kept_container_again_and_keeps_the_other() -> None:
    engine = Engine().put(replace(serving(OLD), id="the first"))
    engine.run(again(engine, NEW))
    made = again(engine, OLD)
    assert words(made)[0] == "rename chat-0-previous to chat-0-new"
    assert not engine.run(made)
    assert engine.containers["chat-0"].id == "the first"
    assert engine.containers["chat-0-previous"].labels["io.fleet.release"] == "r2"
    assert again(engine, OLD).changes == ()


def test_a_kept_container_that_is_not_right_any_more_is_made_anew() -> None:
    made = plan([built(service(env={"A": "1"}), of=image("r1")).spec], [serving(NEW), KEPT])
    assert words(made)[0] == "create chat-0-new from vllm-rocm:r1"
    assert "remove chat-0-previous" in words(made)


def test_a_kept_container_that_fails_now_goes_and_the_serving_one_comes_back() -> None:
    engine = Engine(sick=lambda one: one.image_id == OLD.image.config_digest).put(serving(NEW), KEPT)
    assert engine.run(again(engine, OLD)) == ["chat-0"]
    assert list(engine.containers.values()) == [serving(NEW)]


@pytest.mark.parametrize("steps", range(14))
def test_a_way_back_that_is_cut_off_ends_as_wanted_by_either_command(steps: int) -> None:
    for wanted in (OLD, NEW):
        engine = Engine(steps_left=steps).put(serving(NEW), KEPT)
        with contextlib.suppress(Killed):
            engine.run(again(engine, OLD))
        engine.steps_left = 1_000
        assert not engine.run(again(engine, wanted))
        assert again(engine, wanted).changes == ()
        serves = engine.containers["chat-0"]
        assert (serves.state, serves.labels["io.fleet.spec"]) == ("running", wanted.hash)
        assert set(engine.containers) <= {"chat-0", "chat-0-previous"}


def test_what_served_with_secrets_of_another_file_or_in_a_strangers_place_is_not_kept() -> None:
    spec = built(service(secrets={"HF_TOKEN": Secret("x", literal="s")})).spec
    taken = replace(serving(OLD), labels={**OLD.labels, "io.fleet.replaces": '[["by-hand", "always", true]]'})
    for wanted, found in ((NEW, taken), (NEW, replace(serving(spec), labels=OLD.labels))):
        made = plan([wanted], [found])
        assert words(made)[-2:] == ["remove chat-0", "rename chat-0-new to chat-0"]


def test_a_kept_container_that_somebody_started_gives_way() -> None:
    engine = Engine().put(serving(NEW, state="exited"), replace(KEPT, state="running"))
    assert not engine.run(again(engine, NEW))
    assert list(engine.containers) == ["chat-0"]


HELD = Held("chat-0", "unless-stopped", running=True)
ANSWERED = predict(
    built(service(), of=image("r3")).spec, name="chat-0-new", held=(HELD,), state="running", restart="unless-stopped"
)
HALF_STATES: dict[str, tuple[list[Inspection], list[str]]] = {
    "new created but not started, old still serves": (
        [serving(OLD), predict(NEW, name="chat-0-new", held=(HELD,))],
        ["set restart=no on chat-0", "stop chat-0 (grace 60 s)", "wait until VRAM is free on all GPUs",
         "start chat-0-new", "wait", "verify", "write down", "set restart=unless-stopped on chat-0-new", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "old held but still running": (
        [serving(OLD, restart="no"), predict(NEW, name="chat-0-new", held=(HELD,))],
        ["stop chat-0 (grace 60 s)", "wait until VRAM is free on all GPUs", "start chat-0-new", "wait", "verify", "write down",
         "set restart=unless-stopped on chat-0-new", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "old held and stopped, new not started": (
        [serving(OLD, restart="no", state="exited"), predict(NEW, name="chat-0-new", held=(HELD,))],
        ["wait until VRAM is free on all GPUs", "start chat-0-new", "wait", "verify", "write down",
         "set restart=unless-stopped on chat-0-new", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "both there, new running and unproved": (
        [serving(OLD, restart="no", state="exited"),
         predict(NEW, name="chat-0-new", held=(HELD,), state="running")],
        ["wait", "verify", "write down", "set restart=unless-stopped on chat-0-new", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "new proved, old not yet removed": (
        [serving(OLD, restart="no", state="exited"),
         predict(NEW, name="chat-0-new", held=(HELD,), state="running", restart="unless-stopped")],
        ["wait", "verify", "write down", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "old removed, new not yet renamed": (
        [predict(NEW, name="chat-0-new", held=(HELD,), state="running", restart="unless-stopped")],
        ["wait", "verify", "write down", "rename"],
    ),
    "a first deploy cut off while the new one starts": (
        [predict(NEW, name="chat-0-new", state="running")],
        ["wait", "verify", "write down", "set restart=unless-stopped on chat-0-new", "rename"],
    ),
    "a candidate that went down with its host": (
        [predict(NEW, name="chat-0-new", state="exited")],
        ["start chat-0-new", "wait", "verify", "write down", "set restart=unless-stopped on chat-0-new", "rename"],
    ),
    "the candidate is of another spec by now": (
        [serving(OLD, restart="no", state="exited"),
         predict(built(service(), of=image("r3")).spec, name="chat-0-new", held=(HELD,), state="running")],
        ["save the logs of chat-0-new", "stop chat-0-new (grace 60 s)", "wait until VRAM is free on all GPUs",
         "remove chat-0-new", "create chat-0-new from vllm-rocm:r2", "wait until VRAM is free on all GPUs",
         "start chat-0-new", "wait", "verify", "write down", "set restart=unless-stopped on chat-0-new", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "the candidate is of another spec by now, and had answered": (
        [serving(OLD, restart="no", state="exited"), ANSWERED],
        ["rename chat-0 to chat-0-previous", "rename chat-0-new to chat-0", "create chat-0-new from vllm-rocm:r2",
         "set restart=no on chat-0", "stop chat-0 (grace 60 s)", "wait until VRAM is free on all GPUs",
         "start chat-0-new", "wait", "verify", "write down", "set restart=unless-stopped on chat-0-new",
         "remove chat-0-previous", "rename chat-0 to chat-0-previous", "rename"],
    ),
    "the old one is wanted again": (
        [serving(NEW, restart="no", state="exited"),
         predict(OLD, name="chat-0-new", held=(HELD,), state="running")],
        ["save the logs of chat-0-new", "stop chat-0-new (grace 60 s)", "wait until VRAM is free on all GPUs",
         "remove chat-0-new", "set restart=unless-stopped on chat-0", "wait until VRAM is free on all GPUs",
         "start chat-0", "wait", "verify", "write down"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", HALF_STATES)
def test_each_half_state_is_taken_up_where_it_was_cut_off(state: str) -> None:
    containers, expected = HALF_STATES[state]
    made = plan([NEW], containers)
    got = words(made)
    assert len(got) == len(expected), got
    assert all(real.startswith(start) for real, start in zip(got, expected, strict=True)), got
    engine = Engine().put(*containers)
    assert not engine.run(made)
    assert again(engine, NEW).changes == ()
    assert set(engine.containers) - {"chat-0-previous"} == {"chat-0"}


@pytest.mark.parametrize("state", [name for name, (found, _) in HALF_STATES.items() if found[0].name == "chat-0"])
def test_from_each_half_state_a_failure_still_brings_the_old_one_back(state: str) -> None:
    containers, _ = HALF_STATES[state]
    if state in ("the old one is wanted again", "the candidate is of another spec by now, and had answered"):
        return  # there the old one is what is started, or another one serves
    engine = Engine(sick=lambda one: one.image_id == NEW.image.config_digest).put(*containers)
    assert engine.run(again(engine, NEW)) == ["chat-0"]
    assert list(engine.containers.values()) == [serving(OLD)]


def test_a_stopped_container_is_started_and_a_crash_looping_one_stopped_first() -> None:
    assert words(plan([NEW], [serving(NEW, state="exited")]))[0] == "start chat-0"
    assert words(plan([NEW], [serving(NEW, state="restarting")]))[0] == "stop chat-0 (grace 60 s)"


def test_a_changed_restart_policy_is_set_without_a_restart() -> None:
    made = plan([NEW], [serving(NEW, restart="no")])
    assert words(made) == ["set restart=unless-stopped on chat-0"]
    assert made.changes[0].why == "restart: no -> unless-stopped"


def test_a_stranger_on_our_port_is_named_with_its_command_and_not_touched() -> None:
    made = plan([NEW], [stranger("grafana", port=8000)])
    assert "container grafana is not ours and holds the port 8000 of chat-0" in made.problems[0]
    assert "other-server --port 8000" in made.problems[0]
    assert "--take-over grafana" in made.problems[0]


def test_a_container_taken_over_is_kept_until_the_new_one_answers_and_comes_back_if_not() -> None:
    found = stranger("old-vllm", port=8000, devices=("/dev/kfd", "/dev/dri"))
    for sick in (True, False):
        engine = Engine(sick=(lambda one: one.owned) if sick else (lambda _one: False)).put(found)
        failed = engine.run(plan([NEW], engine.containers.values(), take_over=frozenset({"old-vllm"})))
        assert list(engine.containers) == (["old-vllm"] if sick else ["chat-0"])
        assert bool(failed) == sick
        assert not sick or engine.containers["old-vllm"] == found


def test_a_take_over_cut_off_does_not_forget_the_strangers_restart_policy() -> None:
    found = stranger("old-vllm", port=8000)
    engine = Engine(steps_left=4).put(found)
    with pytest.raises(Killed):
        engine.run(plan([NEW], engine.containers.values(), take_over=frozenset({"old-vllm"})))
    assert engine.containers["old-vllm"].restart == "no"
    engine.steps_left = 1_000
    engine.sick = lambda one: one.owned
    engine.run(again(engine, NEW))
    assert list(engine.containers.values()) == [found]


def test_an_exporter_that_may_use_all_gpus_is_said_and_left_alone() -> None:
    made = plan([NEW], [stranger("exporter", devices=("/dev/kfd", "/dev/dri"))])
    assert made.problems == ()
    assert made.notes == ("exporter is not ours and may use the GPUs of chat-0 too",)


def test_orphans_stay_without_prune_and_go_with_it() -> None:
    orphan = serving(built(service("old", port=9000)).spec, devices=())
    assert plan([NEW], [serving(NEW), orphan]).changes == ()
    assert "--prune removes it" in plan([NEW], [serving(NEW), orphan]).notes[0]
    assert words(plan([NEW], [serving(NEW), orphan], prune=True)) == ["stop old-0 (grace 60 s)", "remove old-0"]


def test_an_orphan_on_our_gpus_is_a_problem_until_prune_replaces_it() -> None:
    two = specs(service(replicas=2))
    engine = Engine().put(*(serving(one) for one in two))
    assert "chat-1 holds the GPUs of chat-0" in again(engine, NEW).problems[0]
    assert not engine.run(again(engine, NEW, prune=True))
    assert again(engine, NEW).changes == ()
    assert sorted(engine.containers) == ["chat-0", "chat-0-previous"]


def test_replicas_that_trade_gpus_never_hold_one_together() -> None:
    four, two = specs(service(replicas=4)), specs(service(replicas=2))
    engine = Engine().put(*(serving(one) for one in four))
    engine.run(again(engine, *two, prune=True))
    assert again(engine, *two).changes == ()
    engine.run(again(engine, *four))
    assert again(engine, *four).changes == ()


def test_changed_secrets_recreate_and_are_written_first() -> None:
    spec = built(service(secrets={"HF_TOKEN": Secret("x", literal="s")})).spec
    assert plan([spec], [serving(spec)], written=frozenset({spec.secrets_file})).changes == ()
    made = plan([spec], [serving(spec)])
    assert words(made)[0] == "write the secrets of chat to /var/lib/fleet/secrets/chat-0.a (0600)"
    assert "secrets file: other or missing content" in made.changes[0].why


def test_stop_leaves_the_container_there_for_the_next_deploy() -> None:
    made = plan_stop([serving(NEW), stranger("x")], frozenset({"chat"}))
    assert words(made) == ["stop chat-0 (grace 60 s)", "wait until VRAM is free on all GPUs"]


def test_no_step_of_a_plan_forces_anything_on_gpu_work() -> None:
    made = plan([NEW], [serving(OLD)])
    steps = [step for change in made.changes for step in (*change.steps, *change.commit)]
    stops = [n for n, step in enumerate(steps) if isinstance(step, Stop)]
    removes = [n for n, step in enumerate(steps) if isinstance(step, Remove | Rename)]
    proved = next(n for n, step in enumerate(steps) if isinstance(step, Verify))
    assert max(stops) < proved < min(removes)
    assert all(step.grace >= 60 for step in steps if isinstance(step, Stop))


def test_put_back_restores_the_policy_before_the_record_of_it_goes() -> None:
    undo = plan([NEW], [serving(OLD)]).changes[0].undo
    order = [type(step) for step in undo]
    assert order.index(SetRestart) < order.index(Start) < order.index(Remove)


SHAPES: list[Service] = [
    service(),
    service(replicas=2),
    service(replicas=4, gpus=2),
    service(replicas=2, env={"A": "1"}),
    service(replicas=2, secrets={"HF_TOKEN": Secret("x", literal="s")}),
    service(restart="no"),
    service("other", port=8001),
]
EVENTS = st.lists(
    st.tuples(
        st.integers(0, len(SHAPES) - 1),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from([None, None, *range(25)]),  # killed before the step of this number
        st.booleans(),  # the new release is sick
        st.sampled_from(["", "stop", "remove", "env"]),  # what somebody did behind our back
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, len(SHAPES) - 1))
# A candidate of a service that is wanted no more must not be put back as if it had served.
@example(
    [(0, "r1", None, False, ""), (0, "r2", None, False, ""), (6, "r1", 5, False, ""), (0, "r1", None, True, "")], 0
)
def test_after_any_history_one_good_run_ends_as_wanted_and_the_next_plan_is_empty(
    events: list[tuple[int, str, int | None, bool, str]], last: int
) -> None:
    engine = Engine()
    for shape, release, killed, sick, meddled in events:
        wanted = specs(SHAPES[shape], of=image(release))
        engine.steps_left = 1_000 if killed is None else killed
        engine.sick = runs_release(release) if sick else (lambda _one: False)
        with contextlib.suppress(Killed):
            engine.run(again(engine, *wanted, prune=True))
        if meddled and engine.containers:
            meddle(engine, meddled)
    engine.steps_left, engine.sick = 1_000, lambda _one: False
    wanted = specs(SHAPES[last])
    assert not engine.run(again(engine, *wanted, prune=True))
    after = again(engine, *wanted)
    assert (after.changes, after.problems, after.notes) == ((), (), ())
    serves = {name: one for name, one in engine.containers.items() if not one.kept}
    assert sorted(serves) == [spec.name for spec in wanted]
    assert all(one.state == "running" and not one.name.endswith(CANDIDATE) for one in serves.values())
    kept = [one for one in engine.containers.values() if one.kept]
    assert {replica_of(one) for one in kept} <= set(serves)
    assert all(one.restart == "no" and not one.alive for one in kept)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_however_often_the_controller_dies_a_failing_release_never_costs_the_serving_one(one: int, two: int) -> None:
    engine = Engine(sick=lambda found: found.image_id == NEW.image.config_digest).put(serving(OLD))
    killed_twice(engine, one, two)
    assert list(engine.containers.values()) == [serving(OLD)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_what_had_answered_serves_on_however_often_the_controller_of_a_failing_release_dies(one: int, two: int) -> None:
    engine = Engine(sick=runs_release("r2")).put(serving(OLD, restart="no", state="exited"), ANSWERED)
    killed_twice(engine, one, two)
    serves = engine.containers["chat-0"]
    assert (serves.state, serves.restart, serves.image_id) == ("running", "unless-stopped", ANSWERED.image_id)


@pytest.mark.parametrize("wanted", [NEW, OLD])
def test_a_dropped_candidate_that_runs_is_stopped_where_the_host_would_start_the_old_one(wanted: ContainerSpec) -> None:
    """Or a controller that dies between two changes leaves a host on which nothing serves."""
    candidate = replace(ANSWERED, restart="no")
    (change,) = plan([wanted], [serving(OLD, restart="no", state="exited"), candidate]).changes
    assert any(isinstance(step, Stop) and step.name == "chat-0-new" for step in change.steps)
    assert any(isinstance(step, Start) and step.name == "chat-0" for step in change.undo)


def test_what_answered_is_written_down_before_it_takes_its_name() -> None:
    """So a run that is cut off in between is finished by one that writes it down."""
    (change,) = plan([NEW], [serving(OLD)]).changes
    (noted,) = [step for step in change.commit if isinstance(step, Remember)]
    assert (noted.name, noted.service, noted.release, noted.spec) == ("chat-0", "chat", "r2", NEW.hash)
    assert change.commit[0] == noted
    cut_off = [serving(OLD, restart="no", state="exited"), replace(ANSWERED, labels=predict(NEW, name="x").labels)]
    assert noted.what in words(plan([NEW], cut_off))


def killed_twice(engine: Engine, one: int, two: int) -> None:
    """Runs that want the new release: the first two end after so many steps, the third is left alone."""
    for steps in (one, two, 1_000):
        engine.steps_left = steps
        with contextlib.suppress(Killed):
            engine.run(again(engine, NEW))


def runs_release(release: str) -> Callable[[Inspection], bool]:
    return lambda one: one.image_id == image(release).config_digest


def meddle(engine: Engine, how: str) -> None:
    name = min(engine.containers)
    found = engine.containers[name]
    if how == "stop":
        engine.put(replace(found, state="exited"))
    elif how == "remove":
        del engine.containers[name]
    else:
        engine.put(replace(found, env={**found.env, "HIP_VISIBLE_DEVICES": "0"}))


def test_what_a_newer_fleet_made_is_left_to_it() -> None:
    made = serving(NEW)
    label = next(key for key in made.labels if key.endswith("schema"))
    newer = replace(made, labels={**made.labels, label: "2"})
    assert plan([NEW], [newer]).problems == (
        f"{NEW.name} was made by a newer fleet (labels of schema 2): upgrade this one",
    )
