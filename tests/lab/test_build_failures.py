"""Builds that cannot be: a clear message, the right exit code, and a builder and hosts that are as they were."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import MI300X, lab_name
from tests.lab.kill_driver import REACHED
from tests.lab.rolls import within
from tests.lab.standin_image import image_text, standin_archive

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
SLOW = """\
--- a/docker/Dockerfile.rocm
+++ b/docker/Dockerfile.rocm
@@ -8,4 +8,5 @@
 FROM ${BASE_IMAGE} AS base
+RUN sleep 600
 ARG ARG_PYTORCH_ROCM_ARCH
 ENV PYTORCH_ROCM_ARCH=${ARG_PYTORCH_ROCM_ARCH:-${PYTORCH_ROCM_ARCH}}
 ARG COMMON_WORKDIR
"""
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


def ended(controller: Controller, point: str, moment: str, sign: str) -> None:
    """A build that is ended at the first call of a function."""
    words = controller.argv("build")[1:]
    argv = (sys.executable, "-m", "tests.lab.kill_driver", point, "1", moment, sign, *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, cwd=controller.directory, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert REACHED in done.stderr, done.stderr
    assert done.returncode == (-9 if sign == "KILL" else 130), done.stderr


@pytest.mark.parametrize("sign", ["KILL", "INT"])
def test_a_build_whose_controller_ends_does_not_go_on_and_leaves_nothing_on_the_builder(
    lab: Lab, controller: Controller, tmp_path: Path, sign: str
) -> None:
    patch = tmp_path / "slow.patch"
    patch.write_text(SLOW)
    on(lab, BUILDER.name, "mkdir -p /var/tmp/fleet")
    before = state(lab)
    ended(over_source(controller, patches=[str(patch)]), "fleet.image.build:build", "2.0", sign)
    # Not the RUN step's own process: BuildKit ends it, but for now and then (moby/buildkit#2855).
    runs = "grep -laE 'buildx[^]]build|fleet-watc[h]' /proc/[0-9]*/cmdline; true"
    assert within(20, lambda: on(lab, BUILDER.name, runs) == ""), on(lab, BUILDER.name, "ps -ef")
    assert within(20, lambda: state(lab)[1:] == before[1:]), state(lab)


def test_an_import_that_was_killed_is_done_by_the_next_build(lab: Lab, controller: Controller, tmp_path: Path) -> None:
    assert lab.registry == ""
    path = tmp_path / "image.yaml"
    path.write_text(image_text(standin_archive(tmp_path / "brought.tar"), registry=False))
    brought = controller.over(path)
    ended(brought, "fleet.image.skopeo:copy", "0.2", "KILL")
    code, document = brought.ask("build")
    assert (code, len(document["changed"])) == (0, 1)
    assert [one.name for one in (controller.directory / ".fleet/layouts").iterdir() if "-" in one.name] == [
        ".scratch-lock"
    ]
    assert brought.ask("build")[1]["changed"] == []
