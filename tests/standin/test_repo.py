"""The stand-in's repository: its history, its Dockerfiles, its wheel and its version."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from fleet.image.dockerfile import read
from fleet.lab.vllm_repo import HISTORY, SOURCE, files_of, history, make

from .conftest import check_out


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOURCE / f"tree/tools/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_same_files_give_the_same_history(tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(SOURCE)
    assert history() == history(tmp_path / "copy")
    heads = [subprocess.check_output(("git", "-C", make(tmp_path / n), "rev-parse", "main")) for n in ("a", "b")]
    assert heads[0] == heads[1]


def test_a_repository_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    path = make(tmp_path / "vllm.git")
    (path / "mark").touch()
    assert (make(path) / "mark").exists()
    subprocess.check_call(("git", "-C", path, "update-ref", "-d", "refs/tags/v0.10.2"))
    assert not (make(path) / "mark").exists()


def test_a_checkout_knows_its_version(tmp_path: Path) -> None:
    repository = make(tmp_path / "vllm.git")
    found = {}
    for ref in ("v0.10.2", "v0.11.0", "main"):
        subprocess.check_call(
            ("git", "clone", "--quiet", "-c", "advice.detachedHead=false", repository, tmp_path / ref)
        )
        subprocess.check_call(("git", "-C", tmp_path / ref, "checkout", "--quiet", ref))
        script = tmp_path / ref / "tools/version.py"
        found[ref] = subprocess.check_output((sys.executable, script, tmp_path / ref), text=True).strip()
    assert found["v0.10.2"] == "0.10.2"
    assert found["v0.11.0"] == "0.11.0"
    assert found["main"].startswith("0.12.1.dev1+g")


def test_a_context_without_git_has_no_version(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, check_out(tmp_path) / "tools/version.py", tmp_path),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
    )
    assert done.returncode == 1
    assert "unable to detect version" in done.stderr


@pytest.mark.parametrize(
    ("described", "version"), [("v0.11.0-0-gabc1234", "0.11.0"), ("v0.11.0-2-gabc1234\n", "0.11.1.dev2+gabc1234")]
)
def test_versions_are_those_of_setuptools_scm(described: str, version: str) -> None:
    assert tool("version").of(described) == version


def test_a_wheel_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    source, wheel = check_out(tmp_path / "source"), tool("wheel")
    first, second = (wheel.build(source, "0.11.0", tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {"vllm/VERSION", "vllm/release.json", "vllm-0.11.0.dist-info/METADATA"} <= set(archive.namelist())


def test_a_payload_is_the_same_every_time(tmp_path: Path) -> None:
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        tool("payload").write(2, seed, tmp_path / name)
    contents = [(tmp_path / name).read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert len(contents[0]) == 2 << 20


@pytest.mark.parametrize(
    ("release", "last"), [("v0.10.2", "final"), ("v0.11.0", "vllm-openai"), ("v0.12.0", "vllm-openai")]
)
def test_each_release_builds_to_its_last_stage(release: str, last: str) -> None:
    files = files_of(next(one for one in HISTORY if one.name == release))
    found = read(files["docker/Dockerfile.rocm"].decode())
    assert found.stages[-1].name == last
    names = {arg.name for arg in found.all_args}
    assert {"BASE_IMAGE", "ARG_PYTORCH_ROCM_ARCH", "REMOTE_VLLM", "COMMON_WORKDIR", "max_jobs"} <= names
    features = " ".join(feature.name for feature in found.features)
    assert "mount" in features
    assert "network" in features
