"""Tables of facts in, the way to an image out, with every reason."""

from dataclasses import replace
from typing import Any

import pytest

from fleet.image.lock import Lock, dumps, parse
from fleet.image.strategy import (
    CANDIDATES,
    Known,
    Told,
    choose,
    decided,
    key_of,
    narrowed,
    verdict_of,
)
from fleet.inventory.settings import Image, OwnBase, Source

BOTH = ("gfx90a", "gfx942")
SOURCE = Source("main", base_image="rocm/vllm-dev:base", args={"BASE_IMAGE": "x:1", "MAX_JOBS": "8"})
IMAGE = Image("vllm-rocm", source=SOURCE, prebuilt="rocm/vllm:latest", strategy="auto")
DRIVERS = {"mi300x-01": "6.14.14", "mi300x-02": "6.14.14", "mi250-01": "6.12.12"}
FIT = Told("rocm/vllm:latest", BOTH, "7.2.1")
KNOWN = Known(
    BOTH,
    DRIVERS,
    prebuilt=FIT,
    base=Told("rocm/vllm-dev:base", BOTH, "7.2"),
    below=Told("rocm/dev-ubuntu-22.04:7.2.3-complete", (), "7.2.3"),
    own_file="docker/Dockerfile.rocm_base",
    own_gfx=True,
)
NO_GFX = {"gfx": ("gfx942",)}
OLD = {"rocm": "6.1.3"}
NEW = {"rocm": "7.14"}  # documented for driver 30.10, and not for 6.12.12
MUTE: dict[str, Any] = {"gfx": (), "rocm": ""}


def facts(prebuilt: dict[str, Any] | None = None, base: dict[str, Any] | None = None, **others: Any) -> Known:
    images = {"prebuilt": replace(FIT, **(prebuilt or {})), "base": replace(KNOWN.base or FIT, **(base or {}))}
    told: dict[str, Any] = {**images, **others}
    return replace(KNOWN, **told)


CASES: dict[str, tuple[Known, dict[str, Any], str, str]] = {
    # facts, changes of the image, the choice, a part of why
    "all fits, so the cheapest": (KNOWN, {}, "prebuilt", "prebuilt fits"),
    "policy": (KNOWN, {"require_source": True}, "source", "prebuilt does not fit (policy: require_source)"),
    "patches": (
        KNOWN,
        {"source": replace(SOURCE, patches=("/a/fix.patch",))},
        "source",
        "prebuilt does not fit (patches: it does not have fix.patch)",
    ),
    "a GPU that it lacks": (facts(NO_GFX), {}, "source", "gfx targets: gfx942, and not gfx90a"),
    "a driver that it is not for": (facts(NEW), {}, "source", "7.14 is not documented for driver 6.12.12 of mi250-01"),
    "older than vLLM takes": (facts(OLD), {}, "source", "ROCm 6.1.3 is older than 6.3, the oldest for vLLM"),
    "no answer": (
        facts({"problem": "registry docker.io cannot be reached", "silent": True}),
        {},
        "source",
        "registry: registry docker.io cannot be reached",
    ),
    "no answer tonight": (
        facts({"problem": "registry docker.io cannot be reached", "silent": True}, before="prebuilt"),
        {},
        "prebuilt",
        "was chosen before, and registry: registry docker.io cannot be reached is no reason to build",
    ),
    "gone, though chosen before": (
        facts({"problem": "registry docker.io has no rocm/vllm:latest"}, before="prebuilt"),
        {},
        "source",
        "has no rocm/vllm:latest",
    ),
    "no answer, and patches since": (
        facts({"problem": "registry docker.io cannot be reached", "silent": True}, before="prebuilt"),
        {"require_source": True},
        "source",
        "require_source",
    ),
    "a base that lacks a GPU": (facts(NO_GFX, NO_GFX), {}, "own_base", "source does not fit (gfx targets: gfx942"),
    "a base of another ROCm": (facts(NEW, NEW), {}, "own_base", "source does not fit (ROCm: 7.14 is not documented"),
    "a source alone": (KNOWN, {"prebuilt": ""}, "source", "source fits"),
    "a prebuilt image alone": (KNOWN, {"source": None}, "prebuilt", "prebuilt fits"),
    "a prebuilt image alone that lacks a GPU": (facts(NO_GFX), {"source": None}, "", "nothing fits: prebuilt (gfx"),
    "no Dockerfile for a base": (
        facts(NO_GFX, NO_GFX, below=None, own_file=""),
        {},
        "",
        "own_base (base's Dockerfile: the source has no Dockerfile for a base)",
    ),
    "what is not known is no yes": (facts(MUTE), {}, "source", "prebuilt unknown (gfx targets: the image does not say"),
    "by hand it is": (facts(MUTE), {"gfx": BOTH, "rocm": "7.2"}, "prebuilt", "prebuilt fits"),
    "nothing is known of any": (
        facts(MUTE, MUTE, below=replace(FIT, rocm="", gfx=())),
        {},
        "prebuilt",
        "prebuilt is not known to be wrong (gfx targets: the image does not say",
    ),
    "no driver is known": (
        facts(drivers={}),
        {},
        "prebuilt",
        "is not known to be wrong (ROCm: 7.2.1; no host's driver is known)",
    ),
    "a host that does not answer": (
        facts(drivers={**DRIVERS, "mi300x-03": ""}),
        {},
        "prebuilt",
        "the driver of mi300x-03 is not known",
    ),
    "no GPUs are declared": (facts(gfx=()), {}, "prebuilt", "no host declares its GPUs"),
    "targets by hand": (
        facts(NO_GFX),
        {"source": replace(SOURCE, gfx=("gfx942",))},
        "",
        "source (source.gfx: has gfx942 and not gfx90a)",
    ),
    "the repository does not answer": (
        replace(KNOWN, base=Told(problem="asking x for its refs: no"), below=None),
        {"prebuilt": ""},
        "source",
        "source is not known to be wrong (base image: asking x",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_way_follows_from_the_facts(case: str) -> None:
    known, changes, kind, why = CASES[case]
    choice = choose(replace(IMAGE, **changes), known)
    assert choice.kind == kind
    assert why in choice.why
    assert {one.candidate for one in choice.reasons} == set(CANDIDATES)


def test_hosts_that_pull_nothing_are_told_and_stand_in_no_way() -> None:
    choice = choose(IMAGE, replace(KNOWN, sideloaded=("mi250-01", "mi250-02")))
    told = next(one for one in choice.reasons if one.question == "hosts that pull nothing")
    assert told.evidence == "mi250-[01:02]: this controller fetches it and brings it over SSH"
    assert (choice.kind, told.verdict) == ("prebuilt", "fits")


def test_what_was_not_asked_is_not_said_to_fit() -> None:
    choice = choose(IMAGE, replace(KNOWN, base=None, below=None, own_file="", own_gfx=False))
    assert choice.kind == "prebuilt"
    assert [verdict_of(choice.reasons, name) for name in CANDIDATES] == ["fits", "unknown", "unknown"]


def test_one_way_is_left_of_the_image() -> None:
    own = OwnBase("docker/Dockerfile.rocm_base")
    image = replace(IMAGE, source=replace(SOURCE, base=own), require_source=True, gfx=BOTH)
    bare = Image("vllm-rocm", gfx=BOTH)
    assert narrowed(image, "prebuilt") == replace(bare, prebuilt=IMAGE.prebuilt)
    assert narrowed(image, "source") == replace(bare, source=SOURCE)
    built = replace(SOURCE, base=own, base_image="", args={"MAX_JOBS": "8"})
    assert narrowed(image, "own_base") == replace(bare, source=built)
    other = replace(IMAGE, source=replace(SOURCE, dockerfile="docker/Dockerfile.rocm_72"))
    made = narrowed(other, "own_base").source
    assert made is not None
    assert made.base == OwnBase("docker/Dockerfile.rocm_72_base")


def test_the_lock_answers_for_the_same_question_alone() -> None:
    lock = Lock().with_choice(key_of(IMAGE, BOTH), "source")
    assert parse(dumps(lock), "l") == lock
    assert decided(IMAGE, lock, BOTH) == narrowed(IMAGE, "source")
    assert decided(IMAGE, lock, ("gfx942",)) is None
    assert decided(replace(IMAGE, require_source=True), lock, BOTH) is None
    assert decided(replace(IMAGE, strategy="prebuilt"), lock, BOTH) == narrowed(IMAGE, "prebuilt")
    elsewhere = replace(IMAGE, source=replace(SOURCE, ca_file="/other/ca.pem"))
    assert decided(elsewhere, lock, BOTH) == narrowed(elsewhere, "source")
