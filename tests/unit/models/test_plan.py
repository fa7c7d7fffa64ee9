"""What is done so that a host holds a model: what is there and what is wanted in, steps out."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.models.content import Content, File
from fleet.models.held import Ground, Model, Version
from fleet.models.plan import SPARE, Adopt, Bring, Keep, Retire, Step, Switch, plan_models
from fleet.models.source import Here

A, B, C = "a" * 64, "b" * 64, "c" * 64
GB = 10**9
WANTED = Content.of("m", (File("config.json", 10, A), File("model.safetensors", 5 * GB, B)))
SOURCE = Here(WANTED, {}, "/data/models/m")
EMPTY = Ground("/srv/models", there=True, writable=True, root=True, free=100 * GB)
VERSION = f".m.{WANTED.digest[:12]}"


def held(files: Mapping[str, tuple[int, str]], *, listed: bool = True, **more: object) -> Model:
    sums = {path: sha256 for path, (_, sha256) in files.items()}
    model = Model("m", "link", VERSION, {path: size for path, (size, _) in files.items()}, sums)
    return replace(model, listed=sums if listed else None, **more)  # type: ignore[arg-type]  # fields by name


WHOLE = held({"config.json": (10, A), "model.safetensors": (5 * GB, B)})


def steps(model: Model | None, ground: Ground = EMPTY) -> tuple[Step, ...]:
    plan = plan_models(ground.with_model(model) if model else ground, {"m": SOURCE})
    assert plan.problems == ()
    return plan.steps


def test_a_model_that_is_not_there_is_brought_whole_and_nothing_waits_for_readers() -> None:
    bring, switch = steps(None)
    assert isinstance(bring, Bring)
    assert (bring.size, len(bring.files), bring.why) == (5 * GB + 10, 2, "the host does not have it")
    assert isinstance(switch, Switch)
    assert (switch.version, switch.replaces, switch.before) == (VERSION, False, "")


def test_a_model_that_is_listed_as_it_should_be_is_kept() -> None:
    (keep,) = steps(WHOLE)
    assert isinstance(keep, Keep)
    assert not keep.changes


def test_right_files_without_a_right_list_are_listed_where_they_are() -> None:
    mine = replace(WHOLE, open=True)
    assert [type(step) for step in steps(replace(mine, listed=None))] == [Adopt]
    assert [type(step) for step in steps(replace(mine, listed={"config.json": C}))] == [Adopt]
    assert [type(step) for step in steps(replace(WHOLE, listed=None))] == [Keep]  # somebody else's, and right


def test_only_what_differs_moves_and_what_was_staged_before_counts() -> None:
    other = held({"config.json": (10, A), "model.safetensors": (5 * GB, C)})
    ground = replace(EMPTY, parts={B: 2 * GB})
    bring, switch = steps(other, ground)
    assert isinstance(bring, Bring)
    assert (bring.size, bring.there) == (3 * GB, 2 * GB)
    assert bring.what == "stage 1 file of model m, goes on at 2.0 GB"
    assert isinstance(switch, Switch)
    assert switch.staged == {"model.safetensors"}
    assert switch.replaces


def test_a_part_that_is_longer_than_its_file_counts_as_nothing() -> None:
    bring, _ = steps(None, replace(EMPTY, parts={B: 6 * GB}))
    assert bring.size == WANTED.size


def test_a_file_that_is_not_in_the_source_makes_another_version_without_a_byte_sent() -> None:
    more = held({"config.json": (10, A), "model.safetensors": (5 * GB, B), "old.bin": (1, C)})
    (switch,) = steps(more)
    assert isinstance(switch, Switch)
    assert switch.staged == frozenset()
    assert "old.bin" in switch.why


def test_two_files_with_the_same_bytes_are_sent_once() -> None:
    twice = Content.of("m", (File("a", 7, A), File("b", 7, A)))
    bring, switch = plan_models(EMPTY, {"m": Here(twice, {}, "")}).steps
    assert bring.size == 7
    assert isinstance(switch, Switch)
    assert switch.staged == {"a", "b"}


def test_a_damaged_version_keeps_its_directory_and_the_repaired_one_gets_another() -> None:
    damaged = held(
        {"config.json": (10, C), "model.safetensors": (5 * GB, B)}, versions=(Version(VERSION, 1, mounted=False),)
    )
    assert any(isinstance(step, Switch) and step.version == f"{VERSION}-2" for step in steps(damaged))


def test_a_plain_directory_gets_a_name_of_its_own() -> None:
    plain = replace(held({"x": (1, C)}), kind="plain", target="")
    assert [step.before for step in steps(plain) if isinstance(step, Switch)] == [".m.before"]
    again = replace(plain, versions=(Version(".m.before", 1, mounted=False),))
    assert [step.before for step in steps(again) if isinstance(step, Switch)] == [".m.before-2"]


def test_the_version_before_is_kept_and_older_ones_go_but_not_what_is_mounted() -> None:
    versions = tuple(Version(f".m.{n:012d}", n, mounted=n == 2) for n in (1, 2, 3, 4))
    model = replace(WHOLE, versions=(*versions, Version(VERSION, 9, mounted=True)))
    keep, retire = steps(model)
    assert isinstance(keep, Keep)
    assert isinstance(retire, Retire)
    assert retire.versions == (".m.000000000001", ".m.000000000003")
    plan = plan_models(EMPTY.with_model(model), {"m": SOURCE}, lambda path: path == "/srv/models/.m.000000000001")
    assert [step.versions for step in plan.steps if isinstance(step, Retire)] == [(".m.000000000003",)]


def test_where_nobody_can_tell_what_a_mount_of_the_name_led_to_all_versions_stay() -> None:
    model = replace(WHOLE, versions=tuple(Version(f".m.{n:012d}", n, mounted=False) for n in (1, 2, 3)))
    ground = replace(EMPTY, root=False).with_model(model)
    assert plan_models(ground, {"m": SOURCE}, lambda path: path == "/srv/models/m").steps[1:] == ()


def test_a_switch_keeps_what_is_served_now_and_retires_the_rest() -> None:
    old = ".m.000000000001"
    model = replace(
        held({"config.json": (10, C)}),
        target=old,
        versions=(Version(old, 5, mounted=False), Version(".m.000000000002", 9, mounted=False)),
    )
    assert [step.versions for step in steps(model) if isinstance(step, Retire)] == [(".m.000000000002",)]


def test_planning_again_on_the_result_gives_nothing_to_do() -> None:
    listed = {one.path: one.sha256 for one in WANTED.files}
    sizes = {one.path: one.size for one in WANTED.files}
    done = Model("m", "link", VERSION, sizes, listed, listed, (Version(VERSION, 1, mounted=False),))
    assert not any(step.changes for step in steps(done))


def test_room_is_asked_for_before_the_first_byte() -> None:
    tight = replace(EMPTY, free=WANTED.size + SPARE - 1)
    (problem,) = plan_models(tight, {"m": SOURCE}).problems
    assert problem.startswith("/srv/models has 5.1 GB free")
    assert plan_models(replace(tight, free=tight.free + 1), {"m": SOURCE}).problems == ()
    assert plan_models(replace(tight, free=0).with_model(WHOLE), {"m": SOURCE}).problems == ()


def test_files_on_another_disk_have_to_be_copied_and_count() -> None:
    far = replace(held({"config.json": (10, C), "model.safetensors": (5 * GB, B)}), target="/elsewhere/m")
    ground = replace(EMPTY, free=GB)
    assert plan_models(ground.with_model(far), {"m": SOURCE}).problems == ()
    assert plan_models(ground.with_model(replace(far, apart=True)), {"m": SOURCE}).problems


def test_a_directory_that_the_login_may_not_write_is_a_problem_only_where_something_is_to_be_done() -> None:
    shut = replace(EMPTY, writable=False)
    assert "ansible_become" in plan_models(shut, {"m": SOURCE}).problems[0]
    assert plan_models(shut.with_model(WHOLE), {"m": SOURCE}).problems == ()


def test_a_file_in_the_models_place_is_a_problem() -> None:
    plan = plan_models(EMPTY.with_model(Model("m", "other")), {"m": SOURCE})
    assert plan.steps == ()
    assert plan.problems == ("/srv/models/m is no directory, so model m cannot take its place",)
