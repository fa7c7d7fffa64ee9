"""What an image must say of itself before it leaves the builder."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fleet.image.machine import Here
from fleet.image.smoke import NO_DEVICE, STALL, Said, SmokeError, answered, config_of, gfx_of, judge, smoke
from fleet.transport import Output

FIT = ("i:t", "0.11.0", "0.11.0\n", "6.4.3", ("gfx90a", "gfx942"), ("gfx942",), Said())
BROUGHT = Said(built=False)


class Engine(Here):
    """A docker that has one image: `answers` by the program that is run, "" for the image's own entry point."""

    def __init__(self, config: Mapping[str, object], **answers: Output) -> None:
        self.config = config
        self.answers = {
            "python3": Output(0, "fleet-version 0.11.0\n", ""),
            "vllm": Output(0, "0.11.0\n", ""),
            "": Output(0, "usage: vllm serve [model_tag]\n", ""),
            "/opt/rocm/.info/version": Output(0, "6.4.3-128\n", ""),
            "/app/versions.txt": Output(1, "", "No such file"),
            **answers,
        }
        self.ran: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        words = tuple(argv)
        self.ran.append(words)
        if words[:3] == ("docker", "image", "inspect"):
            return Output(0, json.dumps(self.config), "")
        assert (words[:2], stall) == (("docker", "run"), STALL)
        program = words[words.index("--entrypoint") + 1] if "--entrypoint" in words else ""
        return self.answers[words[-1] if program == "cat" else program]


ENV = ["PYTORCH_ROCM_ARCH=gfx90a;gfx942"]
SERVING = {"Env": ENV, "Entrypoint": ["/start.sh", "vllm", "serve"]}


def test_a_fit_image_tells_its_versions() -> None:
    assert judge(*FIT).rocm == "6.4.3"
    assert judge(*FIT).notes == ()


def test_what_an_image_does_not_say_is_said() -> None:
    found = judge("i:t", "0.11.0", "vllm 0.11.0", "6.4.3", (), ("gfx942",), Said())
    assert found.gfx == ()
    assert "nobody knows whether it runs on gfx942" in found.notes[0]
    brought = judge("i:t", "0.11.0", "vllm 0.11.0", "", (), (), BROUGHT)
    assert [note.partition(";")[0] for note in brought.notes][1] == "it does not say its ROCm version"
    by_hand = judge("i:t", "0.11.0", "vllm 0.11.0", "", (), ("gfx942",), Said(("gfx942",), "7.2", built=False))
    assert (by_hand.gfx, by_hand.rocm, by_hand.notes) == (("gfx942",), "7.2", ())


def test_of_a_built_image_its_own_word_counts_and_of_a_brought_one_the_inventorys() -> None:
    words = ("i:t", "0.11.0", "0.11.0", "6.4.3", ("gfx942",), ("gfx90a",))
    with pytest.raises(SmokeError, match="built for gfx942 and not for gfx90a"):
        judge(*words, Said(("gfx90a",)))
    assert judge(*words, Said(("gfx90a",), built=False)).gfx == ("gfx90a",)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (1, "", "no version"),
        (2, "0.10.2\n", "its package 0.11.0"),
        (3, "", "names no ROCm"),
        (5, ("gfx950",), "not for gfx950"),
    ],
)
def test_an_unfit_image_is_refused(place: int, value: object, said: str) -> None:
    words: list[Any] = [*FIT]
    words[place] = value
    with pytest.raises(SmokeError, match=said):
        judge(*words)


def test_the_entry_point_is_run_as_serving_runs_it() -> None:
    for config, head, tail in (
        (SERVING, (), ("/app/models/smoke", "--help")),
        ({"Env": ENV, "Entrypoint": ["/bin/bash"]}, ("vllm",), ("serve", "/app/models/smoke", "--help")),
        ({"Env": ENV}, ("",), ("vllm", "serve", "/app/models/smoke", "--help")),
        ({"Env": ENV, "Entrypoint": ["/start.sh"]}, (), ("vllm", "serve", "/app/models/smoke", "--help")),
    ):
        engine = Engine(config, vllm=Output(0, "vllm 0.11.0 usage: vllm serve", ""))
        found = smoke(engine, "i:t", ("gfx942",), Said())
        assert (found.version, found.rocm, found.gfx, found.notes) == ("0.11.0", "6.4.3-128", ("gfx90a", "gfx942"), ())
        (ran,) = [words for words in engine.ran if "--help" in words]
        assert ran[ran.index("i:t") + 1 :] == tail
        assert ("--entrypoint" in ran) == bool(head and head[0])


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (
            Output(127, "", "exec /start.sh: no such file"),
            r"`/start.sh vllm serve \S+/smoke --help`, exits with 127: exec",
        ),
        (Output(0, "hello\n", ""), "says hello"),
        (Output(0, "", ""), "says no word of vLLM"),
        (Output(2, "usage: vllm serve", "vllm: error: no"), "exits with 2: vllm: error: no"),
    ],
)
def test_an_entry_point_that_does_not_answer_fails_the_image(done: Output, said: str) -> None:
    with pytest.raises(SmokeError, match=said):
        smoke(Engine(SERVING, **{"": done}), "i:t", (), Said())


def test_a_vllm_that_wants_a_gpu_for_its_help_has_been_reached() -> None:
    assert "the builder has none" in answered("i:t", (), Output(1, "", f"RuntimeError: {NO_DEVICE}\n"))


def test_rocm_of_an_image_without_a_tree_of_it_is_read_from_its_versions() -> None:
    away = Output(1, "", "No such file")
    said = {"/opt/rocm/.info/version": away, "/app/versions.txt": Output(0, "ROCM_SDK_VERSION: 7.14.0\n", "")}
    assert smoke(Engine(SERVING, **said), "i:t", (), Said()).rocm == "7.14.0"
    with pytest.raises(SmokeError, match="names no ROCm"):
        smoke(Engine(SERVING, **{"/opt/rocm/.info/version": away}), "i:t", (), Said())


def test_gfx_targets_are_read_from_the_environment() -> None:
    assert gfx_of({"Env": ["A=1", "PYTORCH_ROCM_ARCH=gfx90a;gfx942"]}) == ("gfx90a", "gfx942")
    assert gfx_of(config_of("null")) == gfx_of(config_of("")) == ()
