"""What goes from a host and what stays."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.delivery.staging import StagedImage, Staging
from fleet.image.release import Release
from fleet.prune.controller import OldFile, plan_files
from fleet.prune.facts import (
    Box,
    HostFacts,
    Policy,
    PrunePlan,
    RemoveContainer,
    RemoveImage,
    RemoveVolume,
    SweepStaging,
)
from fleet.prune.plan import plan_prune
from fleet.rollout.census import Listed
from fleet.rollout.lineage import Lineage, Served
from fleet.rollout.past import Past
from fleet.serving.spec import cache_volume

NAME, REGISTRY, MODEL = "vllm-rocm", "reg:5000", "org/tiny"
SERVICES = frozenset({"chat"})


def release(number: int) -> Release:
    digits = f"{number:064x}"[::-1]
    return Release(NAME, f"sha256:{digits}", f"sha256:{'c' * 32}{digits[:32]}", ("sha256:1",), (), (), "source")


A, B, C, D, E = RELEASES = tuple(release(number) for number in range(1, 6))


def held(one: Release, *names: str) -> Listed:
    """As a classic store lists what was pulled and tagged."""
    return Listed(one.config_digest, (one.local_name, *names), (f"{REGISTRY}/{NAME}@{one.manifest_digest}",), 10, 0.0)


def box(one: Release, name: str = "chat-0", state: str = "running") -> Box:
    labels = {"io.fleet.service": name.rpartition("-0")[0] or "chat", "io.fleet.release": one.id}
    return Box(f"id-{name}", name, state, one.config_digest, labels, (cache_volume(one.id, "gfx942", MODEL),))


def past(*served: Release, service: str = "chat", **more: object) -> Past:
    """They answered in this order."""
    standing = tuple(Served(one.id, float(at)) for at, one in enumerate(served))
    touched = frozenset(one.id for one in served)
    known = {one.id: one for one in RELEASES}
    came = {one.id: float(at) for at, one in enumerate(served)}
    made = Past({service: Lineage(standing)}, releases=known, touched=touched, came=came)
    return replace(made, **more)  # type: ignore[arg-type]  # fields of Past by name


def facts(*served: Release, boxes: Iterable[Box] = (), **more: object) -> HostFacts:
    volumes = tuple(cache_volume(one.id, "gfx942", MODEL) for one in served)
    made = HostFacts(tuple(held(one) for one in served), tuple(boxes), volumes, past=past(*served))
    return replace(made, **more)  # type: ignore[arg-type]  # fields of HostFacts by name


POLICY = Policy(services=SERVICES, models=frozenset({MODEL}), registries=frozenset({REGISTRY}))


def plan(given: HostFacts, policy: Policy = POLICY) -> PrunePlan:
    return plan_prune(given, given.past.releases, policy)


def images(made: PrunePlan) -> list[str]:
    return [step.name for step in made.steps if isinstance(step, RemoveImage)]


def why(made: PrunePlan, what: str) -> str:
    (found,) = [one.why for one in made.kept if one.what == what]
    return found


FOUR = facts(A, B, C, D, boxes=[box(D), box(C, "chat-0-previous", "exited")])


def test_what_runs_and_what_a_roll_back_takes_stay_with_their_reasons() -> None:
    made = plan(FOUR)
    assert images(made) == [A.local_name, B.local_name]
    assert why(made, f"image {D.local_name}") == "chat-0 runs it"
    assert why(made, f"image {C.local_name}") == "chat would go back to it"
    assert why(made, "container chat-0-previous") == "chat would go back to it"
    assert all(step.why for step in made.steps)
    assert made.size == 20


def test_the_caches_of_releases_that_are_gone_go_with_them() -> None:
    gone = [step.name for step in plan(FOUR).steps if isinstance(step, RemoveVolume)]
    assert gone == [cache_volume(one.id, "gfx942", MODEL) for one in (A, B)]


def test_caches_over_the_limit_go_by_their_last_use_but_none_that_a_container_mounts() -> None:
    """All four are needed; `d` runs, `c` waits for a roll-back, and of the other two `a` was used longest ago."""
    a, b, c, d = FOUR.volumes
    given = replace(FOUR, sizes=dict.fromkeys((a, b, c, d), 30), past=replace(FOUR.past, pinned={A.id: "", B.id: ""}))

    def gone(limit: int, facts: HostFacts = given) -> list[str]:
        steps = plan(facts, replace(POLICY, caches=limit)).steps
        return [step.name for step in steps if isinstance(step, RemoveVolume)]

    assert [gone(limit) for limit in (0, 120, 119, 90)] == [[], [], [a], [a]]
    assert gone(60) == gone(1) == [a, b]
    assert gone(1, replace(given, sizes={})) == []  # nobody could see how large they are
    made = plan(given, replace(POLICY, caches=1))
    (first, _) = (step for step in made.steps if isinstance(step, RemoveVolume))
    assert first.why == "cache volumes have 120 B, fleet.retention.cache_volumes is 1 B, and no container uses it"
    assert made.size == 60


def test_a_cache_volume_that_nothing_proves_to_be_ours_stays() -> None:
    forged = cache_volume(A.id, "gfx942", MODEL)[:-8] + "00000000"
    stranger = cache_volume("0123456789ab", "gfx942", MODEL)
    made = plan(replace(FOUR, volumes=(forged, stranger, "fleet-cache-mine", "postgres")))
    assert not [step for step in made.steps if isinstance(step, RemoveVolume)]
    assert why(made, f"volume {forged}") == "nothing here proves that it is ours"


@pytest.mark.parametrize(("keep", "gone"), [(1, "AB"), (2, "AB"), (3, "A"), (4, "")])
def test_so_many_of_the_newest_stay_and_the_way_back_in_any_case(keep: int, gone: str) -> None:
    wanted = [one.local_name for one, letter in zip(RELEASES, "ABCDE", strict=True) if letter in gone]
    assert images(plan(FOUR, replace(POLICY, keep=keep))) == wanted


def test_what_came_last_stays_though_it_never_answered() -> None:
    brought = replace(FOUR.past, touched=FOUR.past.touched | {E.id}, came={**FOUR.past.came, E.id: 99.0})
    made = plan(replace(FOUR, images=(*FOUR.images, held(E)), past=brought))
    assert E.local_name not in images(made)


def test_what_is_pinned_or_wanted_elsewhere_stays() -> None:
    pinned = replace(FOUR, past=replace(FOUR.past, pinned={A.id: "the benchmark's"}))
    made = plan(pinned, replace(POLICY, wanted={B.id: "last-good in reg:5000"}))
    assert images(made) == []
    assert why(made, f"image {A.local_name}") == "pinned: the benchmark's"
    assert why(made, f"image {B.local_name}") == "last-good in reg:5000"


def test_a_foreign_image_with_a_similar_name_stays_whatever_it_is_called() -> None:
    names = (f"{NAME}:old", f"{NAME}:{A.id}", f"{REGISTRY}/{NAME}:build-1", f"{NAME}:build-{A.content_key}")
    foreign = Listed("sha256:" + "f" * 64, names, (f"{REGISTRY}/{NAME}@sha256:{'f' * 64}",), 10, 0.0)
    dangling = Listed("sha256:" + "e" * 64, (), (), 10, 0.0)
    made = plan(replace(FOUR, images=(foreign, dangling, *FOUR.images[1:])))
    assert images(made) == [B.local_name]
    assert made.foreign == 2


def test_a_release_that_this_tool_did_not_bring_here_is_foreign() -> None:
    mine = replace(FOUR.past, touched=FOUR.past.touched - {A.id})
    made = plan(replace(FOUR, past=mine))
    assert images(made) == [B.local_name]
    assert images(plan(replace(FOUR, past=replace(mine, recorded=frozenset({A.id}))))) == [A.local_name, B.local_name]


def test_of_an_image_with_a_foreign_name_only_ours_goes() -> None:
    shared = replace(held(A, "somebody/else:1"), repo_digests=(f"hub.corp/{NAME}@{A.manifest_digest}",))
    (step,) = [one for one in plan(replace(FOUR, images=(shared, *FOUR.images[2:]))).steps if one.size == 0][:1]
    assert isinstance(step, RemoveImage)
    assert (step.references, step.whole, step.size) == ((A.local_name,), False, 0)
    assert "somebody/else:1" in step.why
    later = plan(replace(FOUR, images=(replace(shared, names=("somebody/else:1",)), *FOUR.images[2:])))
    assert images(later) == []


@pytest.mark.parametrize(
    "name",
    [
        f"alice/{NAME}:{A.id}",
        f"{NAME}-dev:{A.id}",
        f"{NAME}2:{A.id}",
        f"other:5000/{NAME}:{A.id}",
        f"{REGISTRY}/{NAME}:{A.id}",
        f"{NAME}:{A.id}-dev",
    ],
)
def test_what_somebody_gave_a_similar_name_keeps_the_image_though_it_is_one_of_ours(name: str) -> None:
    given = replace(FOUR, images=(replace(held(A), names=(A.local_name, name)), *FOUR.images[1:]))
    step = next(one for one in plan(given).steps if isinstance(one, RemoveImage) and one.image == A.config_digest)
    assert (name in step.references, step.whole, step.size) == (False, False, 0)


def test_a_digest_that_the_containerd_store_makes_up_for_a_tag_goes_with_that_tag() -> None:
    made_up = f"{NAME}@{A.manifest_digest}"
    ours = Listed(A.manifest_digest, (A.local_name,), (made_up, f"{REGISTRY}/{NAME}@{A.manifest_digest}"), 10, 0.0)
    (step, *_) = plan(replace(FOUR, images=(ours, *FOUR.images[2:]))).steps
    assert isinstance(step, RemoveImage)
    assert (step.references, step.whole) == ((A.local_name, f"{REGISTRY}/{NAME}@{A.manifest_digest}"), True)
    tagged = replace(ours, names=(A.local_name, f"{NAME}:mine"), repo_digests=(made_up,))
    (step, *_) = plan(replace(FOUR, images=(tagged, *FOUR.images[2:]))).steps
    assert isinstance(step, RemoveImage)
    assert (step.references, step.whole) == ((A.local_name,), False)


def test_what_the_audit_says_was_pulled_is_ours_though_the_registry_is_another_now() -> None:
    moved = Policy(services=SERVICES, registries=frozenset({"new:5000"}))
    made = plan(FOUR, moved)
    assert [step.references for step in made.steps if isinstance(step, RemoveImage)] == [
        (A.local_name,),
        (B.local_name,),
    ]
    told = replace(FOUR.past, pulled=frozenset({f"{REGISTRY}/{NAME}@{A.manifest_digest}"}))
    first = plan(replace(FOUR, past=told), moved).steps[0]
    assert isinstance(first, RemoveImage)
    assert first.references == held(A).references


def test_our_image_that_lost_its_name_goes_by_its_id() -> None:
    bare = Listed(A.config_digest, (), (), 10, 0.0)
    (step,) = plan(replace(FOUR, images=(bare, *FOUR.images[2:]), volumes=())).steps
    assert isinstance(step, RemoveImage)
    assert (step.image, step.references) == (A.config_digest, (A.config_digest,))
    assert "no name points to it" in step.why


def test_an_image_whose_record_is_gone_is_known_by_the_audit_and_its_digest() -> None:
    unknown = replace(FOUR.past, releases={one.id: one for one in (B, C, D)})
    made = plan(replace(FOUR, past=unknown))
    assert images(made) == [A.local_name, B.local_name]


def test_what_a_container_of_anybody_was_made_from_stays() -> None:
    foreign = Box("id-f", "somebodys", "exited", A.config_digest)
    made = plan(replace(FOUR, boxes=(*FOUR.boxes, foreign)))
    assert images(made) == [B.local_name]
    assert why(made, f"image {A.local_name}") == "container somebodys was made from it"
    assert made.foreign == 1


def test_a_kept_container_beyond_the_rule_goes_before_its_image_and_its_cache() -> None:
    made = plan(replace(FOUR, boxes=(box(D), box(A, "chat-0-previous", "exited"))))
    kinds = [type(step) for step in made.steps]
    assert kinds == [RemoveContainer, RemoveImage, RemoveImage, RemoveVolume, RemoveVolume]


def test_a_kept_container_of_a_service_that_is_no_more_goes() -> None:
    old = replace(box(A, "chat-0-previous", "exited"), labels={"io.fleet.service": "old", "io.fleet.release": D.id})
    (step, *_) = plan(replace(FOUR, boxes=(box(D), old))).steps
    assert step.why == "service old is no more on this host"


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_a_kept_container_that_somebody_started_is_left_alone(state: str) -> None:
    made = plan(replace(FOUR, boxes=(box(D), box(A, "chat-0-previous", state))))
    assert images(made) == [B.local_name]


def test_a_container_called_like_ours_without_our_label_is_foreign() -> None:
    made = plan(replace(FOUR, boxes=(box(D), Box("x", "chat-0-previous", "exited", "sha256:0"))))
    assert not [step for step in made.steps if isinstance(step, RemoveContainer)]


def test_staging_goes_when_it_is_old_or_the_host_has_the_image() -> None:
    blobs = {f"sha256:{letter * 64}": size for letter, size in (("1", 5), ("2", 7), ("3", 9))}
    first, second, third = blobs
    young = StagedImage(E.config_digest, E.local_name, 60, {first: 5})
    old = StagedImage("sha256:old", "vllm-rocm:old", 8 * 86400.0, {second: 7})
    staging = Staging("/var/tmp/fleet", 0, {first: 5, second: 7}, {third: 9}, (young, old))
    (step,) = [one for one in plan(replace(FOUR, staging=staging)).steps if isinstance(one, SweepStaging)]
    assert (step.configs, step.size) == (("sha256:old",), 16)
    done = replace(staging, whole={first: 5}, parts={}, images=(young,))
    assert not [one for one in plan(replace(FOUR, staging=done)).steps if isinstance(one, SweepStaging)]
    held_now = replace(done, images=(replace(young, config=D.config_digest),))
    assert [one for one in plan(replace(FOUR, staging=held_now)).steps if isinstance(one, SweepStaging)]


def after(given: HostFacts, made: PrunePlan) -> HostFacts:
    """The host once the plan has been carried out."""
    gone = {step.id for step in made.steps if isinstance(step, RemoveContainer)}
    off = {step.image: set(step.references) for step in made.steps if isinstance(step, RemoveImage)}
    volumes = {step.name for step in made.steps if isinstance(step, RemoveVolume)}
    left = []
    for image in given.images:
        names = tuple(one for one in image.names if one not in off.get(image.id, set()))
        digests = tuple(one for one in image.repo_digests if one not in off.get(image.id, set()))
        if image.id not in off or names or digests:
            left.append(replace(image, names=names, repo_digests=digests))
    boxes = tuple(one for one in given.boxes if one.id not in gone)
    return replace(
        given, images=tuple(left), boxes=boxes, volumes=tuple(one for one in given.volumes if one not in volumes)
    )


@pytest.mark.parametrize("seed", range(200))
def test_nothing_that_is_kept_is_ever_removed_and_a_second_plan_is_empty(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  no secret
    every = [release(number) for number in range(1, 9)]
    served = dice.choices(every, k=dice.randint(0, 8))
    order = [one for at, one in enumerate(served) if one not in served[:at]]
    known = {one.id: one for one in every if dice.random() < 0.8}
    foreign = Listed("sha256:" + "f" * 64, (f"{NAME}:latest", f"{NAME}:{every[0].id}"), (), 10, 0.0)
    listed = [held(one, *(["else:1"] if dice.random() < 0.2 else [])) for one in every if dice.random() < 0.8]
    boxes = [box(order[-1])] if order and dice.random() < 0.9 else []
    boxes += [box(dice.choice(every), "chat-0-previous", dice.choice(["exited", "running"]))]
    boxes += [Box("id-f", "foreign", "exited", dice.choice(every).config_digest)] if dice.random() < 0.5 else []
    pinned = {one.id: "" for one in every if dice.random() < 0.1}
    history = past(*order, releases=known, pinned=pinned, touched=frozenset(one.id for one in every[:6]))
    volumes = tuple(cache_volume(one.id, "gfx942", MODEL) for one in every)
    sizes = {name: dice.randint(0, 9) for name in volumes}
    given = HostFacts((foreign, *listed), tuple(boxes), volumes, sizes, history)
    policy = replace(POLICY, keep=dice.randint(1, 4), wanted={every[dice.randint(0, 7)].id: "last-good"})
    policy = replace(policy, caches=dice.randint(0, 20))
    made = plan_prune(given, known, policy)
    then = after(given, made)

    safe = {one.release for one in then.boxes if one.service} | set(pinned) | set(policy.wanted)
    before = history.lineages["chat"].before({one.release for one in boxes if one.service and not one.kept})
    safe |= {before.release} if before else set()
    removed = {step.image for step in made.steps if isinstance(step, RemoveImage)}
    ids = {one.config_digest: one.id for one in every}
    assert not {ids[one] for one in removed} & safe
    assert foreign in then.images
    assert not removed & {one.image for one in then.boxes}
    shared = [one.id for one in listed if "else:1" in one.names]
    assert set(shared) <= {one.id for one in then.images}
    assert {one.id for one in given.boxes if one.state == "running" or not one.service} <= {
        one.id for one in then.boxes
    }
    assert not {step.name for step in made.steps if isinstance(step, RemoveVolume)} & {
        volume for one in then.boxes for volume in one.volumes
    }
    assert plan_prune(then, known, policy).steps == ()


def test_old_files_go_but_the_newest_runs_and_what_is_being_written_stay() -> None:
    day = 86400.0
    runs = [OldFile(Path(f"runs/{number:02}"), (40 - number) * day, 1) for number in range(20)]
    runs[2] = replace(runs[2], busy=True)
    logs = [OldFile(Path("logs/a"), 40 * day, 1), OldFile(Path("logs/b"), day, 1)]
    gone = [str(step.path) for step in plan_files(runs, logs, 33 * day)]
    assert gone == ["runs/00", "runs/01", "runs/03", "runs/04", "runs/05", "runs/06", "logs/a"]
    assert plan_files(runs[:10], (), 0) == ()
