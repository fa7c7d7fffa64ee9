"""A build whose steps can be told from all others'."""

from pathlib import Path

from fleet.image.build_plan import Command
from fleet.image.cancel import cancellable, declares

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
