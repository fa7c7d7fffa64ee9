"""What a Dockerfile offers is read from its text, in every shape that vLLM's had so far."""

from pathlib import Path

import pytest

from fleet.image.dockerfile import Arg, Dockerfile, check, expand, read

DATA = Path(__file__).parents[2] / "data" / "dockerfiles"


def load(name: str) -> Dockerfile:
    return read((DATA / name).read_text(encoding="utf-8"), f"docker/Dockerfile.{name}")


def test_reads_the_syntax_and_the_global_args() -> None:
    file = load("rocm")
    assert file.syntax == "docker/dockerfile:1.7"
    assert [(arg.name, arg.default) for arg in file.args] == [
        ("REMOTE_VLLM", "0"),
        ("COMMON_WORKDIR", "/app"),
        ("BASE_IMAGE", "rocm/vllm-dev:base"),
        ("CI_BASE_IMAGE", "rocm/vllm-dev:ci_base"),
    ]


def test_reads_the_args_of_a_stage() -> None:
    stage = load("rocm").stage("base")
    assert stage is not None
    assert stage.args == (Arg("ARG_PYTORCH_ROCM_ARCH", None, "base", 9), Arg("max_jobs", None, "base", 11))


def test_the_last_stage_is_the_default_target() -> None:
    assert load("rocm").default_target == "vllm-openai"
    assert load("rocm_2025").default_target == "final"


def test_a_here_document_is_no_instruction() -> None:
    names = [stage.name for stage in load("rocm").stages]
    assert names[-2:] == ["final", "vllm-openai"]
    assert len(names) == 10


def test_names_the_features_with_their_lines() -> None:
    features = {feature.name: feature.line for feature in load("rocm").features}
    assert set(features) == {
        "ADD --checksum",
        "RUN --mount=type=cache",
        "RUN --mount=type=bind",
        "RUN --network",
        "COPY --link",
        "COPY --chmod",
        "RUN heredoc",
    }
    assert features["RUN --mount=type=cache"] == 29


def test_finds_the_images_that_a_target_needs() -> None:
    file = load("rocm")
    assert file.base_images("", {}) == ("rocm/vllm-dev:base",)
    assert file.base_images("test", {"CI_BASE_IMAGE": "r.corp/ci:1"}) == ("r.corp/ci:1",)
    assert file.base_images("vllm-openai", {"BASE_IMAGE": "r.corp/b:2", "REMOTE_VLLM": "1"}) == ("r.corp/b:2",)


def test_reads_odd_but_legal_files() -> None:
    file = load("odd")
    assert [(stage.name, stage.base) for stage in file.stages] == [("One", "alpine:3"), ("1", "One")]
    assert [(arg.name, arg.default) for arg in file.all_args] == [("A", "1"), ("B", "two words"), ("C", None)]
    assert file.base_images("", {}) == ("nginx:1", "alpine:3")
    assert {feature.name for feature in file.features} == {"COPY heredoc", "ADD git repository"}


def test_names_the_arg_for_gfx_targets() -> None:
    assert load("rocm").gfx_arg == "ARG_PYTORCH_ROCM_ARCH"
    assert load("rocm_72_base").gfx_arg == "PYTORCH_ROCM_ARCH"
    assert not load("rock_base").gfx_arg


def test_a_missing_arg_is_a_problem_with_a_suggestion() -> None:
    (problem,) = check(load("rocm"), args=["BASE_IMGE", "max_jobs", "https_proxy"])
    assert problem.file == "docker/Dockerfile.rocm"
    assert "no ARG BASE_IMGE" in problem.message
    assert problem.hint == "did you mean BASE_IMAGE or CI_BASE_IMAGE?"


def test_a_missing_target_names_the_stages() -> None:
    (problem,) = check(load("rocm_2025"), args=[], target="vllm-openai")
    assert "vllm-openai" in problem.message
    assert problem.hint == "its stages: base, build, final"


def test_a_file_without_from_is_a_problem() -> None:
    (problem,) = check(read("ARG A\n"), args=["A"])
    assert "no FROM" in problem.message


def test_an_existing_target_is_found_by_index_and_in_any_case() -> None:
    assert not check(load("odd"), args=["A"], target="ONE")
    assert not check(load("odd"), args=["A"], target="1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A/x", "1/x"),
        ("${A}", "1"),
        ("${B:-d}", "d"),
        ("${A:-d}", "1"),
        ("${A:+y}${B:+n}", "y"),
        ("${B:-${A}}", "1"),
        ("$B", ""),
    ],
)
def test_expands_variables_as_buildkit_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_the_last_stage_is_built_without_being_named() -> None:
    file = read("FROM a\nFROM b AS mid\nFROM c\n")
    assert [file.target_flag(target) for target in ("2", "mid", "1", "MID", "0")] == ["", "mid", "mid", "mid", "0"]
