"""The lock file is strict, written whole, and says where it is wrong."""

from pathlib import Path

import pytest

from fleet.errors import InputError
from fleet.image.lock import Lock, dumps, parse, read, write

REPOSITORY = "https://github.com/vllm-project/vllm.git"
LOCK = (
    Lock().with_commit(REPOSITORY, "v0.11.0", "a" * 40).with_image("docker.io/rocm/vllm-dev:base", f"sha256:{'b' * 64}")
)


def test_answers_what_was_locked() -> None:
    assert LOCK.commit(REPOSITORY, "v0.11.0") == "a" * 40
    assert not LOCK.commit(REPOSITORY, "main")
    assert LOCK.image("docker.io/rocm/vllm-dev:base") == f"sha256:{'b' * 64}"


def test_a_base_is_either_a_registrys_or_the_builders() -> None:
    lock = LOCK.with_local("docker.io/rocm/vllm-dev:base", f"sha256:{'c' * 64}")
    assert (lock.image("docker.io/rocm/vllm-dev:base"), lock.images) == ("", {})
    assert parse(dumps(lock), "l") == lock
    assert not lock.with_image("docker.io/rocm/vllm-dev:base", f"sha256:{'b' * 64}").local


def test_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "prod.lock.yaml"
    assert write(path, LOCK)
    assert read(path) == LOCK
    assert not write(path, LOCK)
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    assert read(tmp_path / "prod.lock.yaml") == Lock()
    assert parse("# only a comment\n", "l") == Lock()


def test_a_commit_of_digits_alone_stays_text() -> None:
    lock = Lock().with_commit("r", "v", "1" * 40)
    assert parse(dumps(lock), "l") == lock


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("schema: 1\n<<<<<<< HEAD\nimages: {}\n=======\n>>>>>>> b\n", 2, "merge conflict"),
        ("schema: 1\nimages: [\n", 3, "no YAML"),
        ("schema: 2\n", 1, "this fleet reads 1"),
        ("images: {}\n", 1, "is missing"),
        ("schema: 1\nimage: {}\n", 2, "unknown key"),
        ("schema: 1\nimages:\n  a: b\n", 3, "is not a digest"),
        ("schema: 1\ncommits:\n  r v: abc\n", 3, "is not a commit"),
        ("schema: 1\ncommits:\n  - x\n", 3, "must be a mapping"),
        (f"schema: 1\ncommits:\n  r v: {'a' * 40}\n  r v: {'b' * 40}\n", 4, "twice"),
        ("- a\n", 1, "must be a mapping"),
        ("schema: 1\n\x00\n", 0, "no YAML"),
    ],
)
def test_says_where_it_is_wrong(text: str, line: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse(text, "prod.lock.yaml")
    assert caught.value.problems[0].line == line
    assert caught.value.problems[0].file == "prod.lock.yaml"
