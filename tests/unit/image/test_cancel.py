"""A build whose steps can be told from all others'."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.image.build_plan import Command
from fleet.image.cancel import cancellable, declares, runs_on
from fleet.image.machine import Here
from fleet.transport.output import Output

BUILD = ("docker", "buildx", "build", "--tag", "x", "/ctx")


def test_a_name_of_its_own_is_among_those_that_need_no_proxy() -> None:
    asked = cancellable(Command(BUILD, {"HTTP_PROXY": "http://p"}), "mark")
    at = asked.argv.index("docker")
    assert asked.argv[at:] == (*BUILD[:-1], "--build-arg", "NO_PROXY", "--build-arg", "no_proxy", "/ctx")
    assert asked.environment == {"HTTP_PROXY": "http://p", "NO_PROXY": "mark", "no_proxy": "mark"}


def test_names_that_need_no_proxy_already_stay() -> None:
    known = {"NO_PROXY": "corp,10.0.0.0/8", "no_proxy": "corp,10.0.0.0/8"}
    asked = cancellable(
        Command((*BUILD[:-1], "--build-arg", "NO_PROXY", "--build-arg", "no_proxy", "/ctx"), known), "mark"
    )
    assert asked.argv.count("--build-arg") == 2
    assert asked.environment == dict.fromkeys(known, "corp,10.0.0.0/8,mark")


def test_a_dockerfile_that_declares_one_is_known(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM x\nARG NO_PROXY\n")
    assert declares(file)
    file.write_text("FROM x\nARG HTTP_PROXY\n")
    assert not declares(file)


class User(Here):
    """A builder as one user sees it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        assert tuple(argv) == ("id", "-u")
        return Output(0, f"{self.number}\n", "")


@pytest.mark.parametrize(
    ("number", "argument", "said"),
    [(0, "HTTP_PROXY", ""), (1000, "HTTP_PROXY", "ending it takes root there"), (0, "no_proxy", "has an ARG NO_PROXY")],
)
def test_whoever_cannot_end_a_step_says_that_it_may_go_on(
    tmp_path: Path, number: int, argument: str, said: str
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM x\nARG {argument}\n")
    assert (said in runs_on(User(number), file)) if said else (runs_on(User(number), file) == "")
