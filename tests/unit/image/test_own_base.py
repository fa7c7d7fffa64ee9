"""What is said of an image and its own base before anything is built, and what the base tells of itself."""

from fleet.image.build_plan import Base, base_labels
from fleet.image.dockerfile import read
from fleet.image.own_base import Standing
from fleet.image.recipe import Recipe
from fleet.inventory.settings import Source

FILE = read("FROM x\n", "docker/Dockerfile.rocm_base")
OWN = Recipe("vllm-base:build-k", FILE, FILE, {}, "0", Base("x:1", "x@sha256:1", "sha256:1"), "k", ("gfx942",))


def test_a_missing_base_is_named_before_the_image() -> None:
    what, why = Standing(None, "").words(OWN, "build vllm:build-i on box", "main was not built before")
    assert what == "build vllm-base:build-k from docker/Dockerfile.rocm_base, then build vllm:build-i on box"
    assert why == "its base of content key k is nowhere yet; main was not built before"


def test_an_unchanged_base_is_said_to_be_so() -> None:
    what, why = Standing(OWN.base, "r.corp").words(OWN, "build vllm:build-i on box", "main was not built before")
    assert what == "build vllm:build-i on box on the base vllm-base:build-k"
    assert why == "main was not built before; its base is unchanged (r.corp has it)"


def test_a_base_tells_its_key_and_what_it_stands_on_and_no_commit() -> None:
    source = Source("main", repository="https://bob@example.org/vllm.git")
    assert base_labels(source, "k", ("gfx942",), OWN.base) == {
        "org.opencontainers.image.source": "https://example.org/vllm.git",
        "org.opencontainers.image.base.name": "x:1",
        "org.opencontainers.image.base.digest": "sha256:1",
        "io.fleet.content-key": "k",
        "io.fleet.gfx": "gfx942",
    }
