"""Builds that cannot be: a clear message, the right exit code, and a builder and hosts that are as they were."""

import json
from collections.abc import Iterator

import pytest

from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import MI300X, lab_name

pytestmark = pytest.mark.lab

BUILDER = NodeSpec("builder", role="builder", base="trixie")
PLUGIN = "/usr/libexec/docker/cli-plugins/docker-buildx"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("bf")
    try:
        yield Lab.up(name, (BUILDER, MI300X), inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"), (lab.inventory,))


def on(lab: Lab, host: str, script: str) -> str:
    return lab.node(host).exec(("sh", "-c", script)).stdout.strip()


def state(lab: Lab) -> tuple[str, str, str]:
    """Images and files of ours on the builder; containers and images on the host that would serve."""
    return (
        on(lab, BUILDER.name, "docker images -q | sort"),
        on(lab, BUILDER.name, "find /var/tmp /tmp -mindepth 1 | sort"),
        on(lab, MI300X.name, "docker ps -aq; docker images -q"),
    )


def over_source(controller: Controller, **source: object) -> Controller:
    path = controller.directory / "over.yaml"
    path.write_text(json.dumps({"all": {"vars": {"fleet": {"image": {"source": source}}}}}))
    return controller.over(path)


def refused(lab: Lab, controller: Controller, code: int, verb: str = "deploy") -> str:
    """What a command says that ends with this code and changes nothing."""
    before = state(lab)
    done = controller.run(verb)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert state(lab) == before
    return done.stderr


def test_a_builder_without_buildx_is_told_before_the_build(lab: Lab, controller: Controller) -> None:
    on(lab, BUILDER.name, f"mv {PLUGIN} {PLUGIN}.away")
    try:
        said = refused(lab, controller, 1)
    finally:
        on(lab, BUILDER.name, f"mv {PLUGIN}.away {PLUGIN}")
    assert "builder cannot build docker/Dockerfile.rocm: docker CLI 26.1" in said
    assert "only through the buildx plugin, which is missing" in said
    assert "install the buildx plugin" in said


def test_a_ref_that_is_not_there_is_bad_input(lab: Lab, controller: Controller) -> None:
    said = refused(lab, over_source(controller, ref="v0.11.9"), 2)
    assert "has no ref 'v0.11.9'" in said
    assert "near: v0.11.0" in said


def test_a_dockerfile_without_the_argument_is_bad_input(lab: Lab, controller: Controller) -> None:
    said = refused(lab, over_source(controller, args={"BASE_IMAG": "x"}), 2)
    assert "did you mean BASE_IMAGE" in said
    assert "nothing was touched" in said


def test_a_disk_that_is_full_while_building_is_told_and_the_next_build_is_whole(
    lab: Lab, controller: Controller
) -> None:
    lab.break_("docker-disk-full", BUILDER.name)
    try:
        done = controller.run("build")
    finally:
        lab.mend(BUILDER.name)
    assert done.returncode == 1, done.stderr
    assert "no space left on device" in done.stderr
    assert "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert on(lab, MI300X.name, "docker ps -aq; docker images -q") == ""
    assert on(lab, BUILDER.name, "ls -A /var/tmp/fleet 2>/dev/null || true") == ""
    again = controller.run("build")
    assert again.returncode == 0, again.stderr
