"""What must move to a host, from what it holds; and planning again on the result moves nothing."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.delivery.holdings import HeldImage, Holdings
from fleet.delivery.plan import Keep, Load, Pull, Step, Tag, Wanted, plan, plan_sweep
from fleet.delivery.staging import StagedImage, Staging

NAME = "vllm-rocm:r1"
WANTED = Wanted(NAME, "sha256:manifest", "sha256:config", ("sha256:a", "sha256:b", "sha256:c"), (100, 20, 3))
REPOSITORY = "registry.corp:5000/vllm-rocm"


def image(id_: str = "sha256:config", names: tuple[str, ...] = (NAME,), layers: str = "abc") -> HeldImage:
    return HeldImage(id_, names, (), tuple(f"sha256:{layer}" for layer in layers))


def test_keeps_an_image_that_is_there_under_its_name() -> None:
    assert plan(WANTED, Holdings((image(),))) == (Keep(NAME, "the host holds this release under this name"),)


def test_recognises_the_containerd_stores_image_id() -> None:
    held = Holdings((image("sha256:manifest"),), containerd_store=True)
    assert isinstance(plan(WANTED, held)[0], Keep)


def test_recognises_a_pulled_image_by_its_repo_digest() -> None:
    held = dataclasses.replace(image("sha256:other"), repo_digests=(f"{REPOSITORY}@sha256:manifest",))
    assert isinstance(plan(WANTED, Holdings((held,)))[0], Keep)


def test_only_tags_when_the_name_is_gone() -> None:
    assert plan(WANTED, Holdings((image(names=()),))) == (Tag("sha256:config", NAME, "the name is not there"),)


def test_says_when_the_name_points_elsewhere() -> None:
    steps = plan(WANTED, Holdings((image(names=()), image("sha256:x", (NAME,), "ax"))))
    assert steps == (Tag("sha256:config", NAME, "the name points to another image"),)


def test_same_layers_under_another_config_are_another_image() -> None:
    assert isinstance(plan(WANTED, Holdings((image("sha256:other"),)))[0], Load)


def test_pulls_by_digest_where_there_is_a_registry() -> None:
    pull, tag = plan(WANTED, Holdings(()), repository=REPOSITORY)
    assert pull == Pull(REPOSITORY, "sha256:manifest", 123, "the host does not hold this release")
    assert tag == Tag(f"{REPOSITORY}@sha256:manifest", NAME, "the name is not there")


def test_sideload_leaves_out_the_layers_below_that_the_host_has() -> None:
    (load,) = plan(WANTED, Holdings((image("sha256:old", ("vllm-rocm:r0",), "ab"),)))
    assert isinstance(load, Load)
    assert (load.layers, load.size) == ((2,), 3)


def test_what_the_bundle_left_out_and_the_host_lacks_is_named() -> None:
    delta = dataclasses.replace(
        WANTED, layer_digests=("sha256:A", "sha256:B", "sha256:C"), left_out=frozenset({"sha256:A"})
    )
    (whole,) = plan(delta, Holdings(()))
    (upper,) = plan(delta, Holdings((image("sha256:old", ("vllm-rocm:r0",), "ab"),)))
    assert isinstance(whole, Load)
    assert isinstance(upper, Load)
    assert (whole.absent, upper.absent) == (("sha256:A",), ())


def test_a_layer_over_other_layers_does_not_count_as_held() -> None:
    (load,) = plan(WANTED, Holdings((image("sha256:old", (), "xbc"),)))
    assert isinstance(load, Load)
    assert load.size == 123


def test_a_containerd_store_is_sent_only_what_it_lacks_too() -> None:
    (load,) = plan(WANTED, Holdings((image("sha256:old", (), "ab"),), containerd_store=True))
    assert isinstance(load, Load)
    assert load.layers == (2,)
    assert "its containerd store has 2 of 3 layers" in load.why


STAGING = Staging("/var/tmp/fleet", 1 << 40, {"sha256:la": 100}, {"sha256:lb": 7, "sha256:lc": 99})
STAGED = dataclasses.replace(WANTED, layer_digests=("sha256:la", "sha256:lb", "sha256:lc"))


def test_what_is_staged_already_is_not_sent_again() -> None:
    (load,) = plan(STAGED, Holdings(()), staging=STAGING)
    assert isinstance(load, Load)
    assert (load.size, load.there) == (16, 107)  # a part that is longer than its blob counts as nothing
    assert "107 B are staged in /var/tmp/fleet" in load.why


def test_a_layer_that_occurs_twice_moves_once() -> None:
    wanted = dataclasses.replace(WANTED, layer_sizes=(100, 20, 100), layer_digests=("sha256:x", "sha256:y", "sha256:x"))
    (load,) = plan(wanted, Holdings(()))
    assert load.size == 120


@pytest.mark.parametrize(
    ("config", "days", "loading", "why"),
    [
        ("sha256:config", 0, True, ""),  # it is what the transfer goes on with
        ("sha256:config", 9, True, ""),
        ("sha256:config", 0, False, "the host holds it"),
        ("sha256:other", 6, False, ""),
        ("sha256:other", 9, True, "left for 9 days"),
    ],
)
def test_staged_transfers_go_when_nobody_needs_them(config: str, days: int, loading: bool, why: str) -> None:
    staging = dataclasses.replace(STAGING, images=(StagedImage(config, "old:r0", days * 86400.0 + 60),))
    steps = (Load(NAME, (0,), 1, ""),) if loading else (Keep(NAME, ""),)
    sweeps = plan_sweep(staging, 7 * 86400, {"sha256:config": NAME}, steps)
    assert [step.why for step in sweeps] == ([why] if why else [])


def after(holdings: Holdings, steps: tuple[Step, ...]) -> Holdings:
    """The world after the steps, as an engine would leave it."""
    for step in steps:
        images = [
            dataclasses.replace(held, names=tuple(name for name in held.names if name != NAME))
            for held in holdings.images
        ]
        if isinstance(step, Pull):
            new = HeldImage("sha256:config", (), (f"{step.repository}@{step.digest}",), WANTED.diff_ids)
            holdings = dataclasses.replace(holdings, images=(*holdings.images, new))
        elif isinstance(step, Load):
            holdings = dataclasses.replace(holdings, images=(*images, image()))
        elif isinstance(step, Tag):
            wanted = holdings.find(WANTED.digests, WANTED.diff_ids)
            assert wanted
            named = [
                dataclasses.replace(held, names=(*held.names, NAME)) if held.id == wanted.id else held
                for held in images
            ]
            holdings = dataclasses.replace(holdings, images=tuple(named))
    return holdings


@given(
    st.lists(
        st.builds(
            image,
            st.sampled_from(["sha256:config", "sha256:manifest", "sha256:x"]),
            st.sampled_from([(), (NAME,), ("other:1",)]),
            st.sampled_from(["abc", "ab", "a", "xbc"]),
        ),
        max_size=3,
        unique_by=lambda held: held.id,
    ),
    st.booleans(),
    st.sampled_from(["", REPOSITORY]),
)
def test_planning_again_on_the_result_keeps(images: list[HeldImage], containerd: bool, repository: str) -> None:
    holdings = Holdings(tuple(images), containerd)
    result = after(holdings, plan(WANTED, holdings, repository=repository))
    assert [type(step) for step in plan(WANTED, result, repository=repository)] == [Keep]
