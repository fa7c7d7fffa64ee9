"""The builder's part of a direct push, by a real shell and a real skopeo, with a docker that knows two commands."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fleet.delivery.straight import Straight
from fleet.delivery.workbench import TELL
from fleet.image.again import TransientError
from fleet.image.describe import Made
from fleet.image.machine import NOTHING, Here
from fleet.inventory.settings import Registry
from fleet.transport import Output
from tests.tools.test_convert import docker_save

DOCKER = """#!/bin/sh
case $1 in
  save) cp "$SAVED" "$3" ;;
  run) echo "$@" > "$RAN"; cat "$EXPORTED" ;;
  *) exit 9 ;;
esac
"""
MADE = Made("source", "vllm v1")
CLOSED = Registry("127.0.0.1:9")  # nobody listens on the discard port


class Builder:
    """Our machine under another name; `lacks` is a program that it does not have."""

    name = "builder"

    def __init__(self, lacks: str = "", *, reaches: bool = True) -> None:
        self.lacks, self.reaches = lacks, reaches
        self.here = Here()

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        if argv[0] == self.lacks:
            return Output(127, "", "not found")
        if argv[0] == "timeout":
            return Output(0 if self.reaches else 1, "", "")
        return self.here.run(argv, stall=stall)

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        return self.here.stream(argv, on_line, environment=environment, stdin=stdin, stall=stall)

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        self.here.fetch(argv, into)

    def place(self, path: Path) -> AbstractContextManager[str]:
        return self.here.place(path)

    def bench(self) -> AbstractContextManager[str]:
        return self.here.bench()


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "docker").write_text(DOCKER, encoding="utf-8")
    (bin_ / "docker").chmod(0o755)
    exported = tmp_path / "exported.tar"
    with tarfile.open(exported, "w") as tar:
        info = tarfile.TarInfo("opt/rocm-7.2.3/.info/version")
        info.size = 9
        tar.addfile(info, io.BytesIO(b"7.2.3-66\n"))
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("SAVED", str(docker_save(tmp_path / "saved.tar", {"Env": ["PYTORCH_ROCM_ARCH=gfx942"]})))
    monkeypatch.setenv("EXPORTED", str(exported))
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    place = tmp_path / "staging"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture(autouse=True)
def _answers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry that the builder cannot push to is well for the controller."""
    monkeypatch.setattr("fleet.delivery.straight.silent_to", lambda _registry: False)


def straight(builder: Builder, notes: list[str]) -> Straight:
    return Straight(builder, CLOSED, lambda _line: None, notes.append)


@pytest.mark.parametrize(
    ("builder", "why"),
    [
        (Builder(lacks="skopeo"), "builder has no skopeo"),
        (Builder(reaches=False), "builder cannot reach 127.0.0.1:9"),
    ],
)
def test_what_does_not_work_goes_through_the_controller_and_is_said(
    staging: Path, tmp_path: Path, builder: Builder, why: str
) -> None:
    notes: list[str] = []
    way = straight(builder, notes)
    assert way.words() == f"it would go to 127.0.0.1:9 through this controller: {why}"
    assert way.bring("vllm:build-1", "vllm", MADE, tmp_path / "layouts") is None
    assert notes == [f"vllm goes to 127.0.0.1:9 through this controller: {why}"]
    assert list(staging.iterdir()) == []


def test_a_push_that_fails_leaves_nothing_on_the_builder(staging: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    assert straight(Builder(), notes).bring("vllm:build-1", "vllm", MADE, tmp_path / "layouts") is None
    assert "could not push vllm:" in notes[0]
    assert list(staging.iterdir()) == []
    assert (tmp_path / "ran").read_text().startswith("run --rm --network none --entrypoint python3 vllm:build-1 -c")


def test_nothing_comes_to_the_controller_for_a_registry_that_is_down(
    staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.delivery.straight.silent_to", lambda _registry: True)
    notes: list[str] = []
    for builder in (Builder(), Builder(reaches=False)):
        with pytest.raises(TransientError, match="does not answer this controller either: "):
            straight(builder, notes).bring("vllm:build-1", "vllm", MADE, tmp_path / "layouts")
    assert notes == []
    assert list(staging.iterdir()) == []


def test_a_release_is_told_by_the_images_own_files(
    staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[str] = []
    monkeypatch.setattr("fleet.delivery.straight.push", lambda layout, *_args, **_more: pushed.append(str(layout)))
    notes: list[str] = []
    release = straight(Builder(), notes).bring("vllm:build-1", "vllm", MADE, tmp_path / "layouts")
    assert release is not None
    assert (release.rocm, release.gfx) == ("7.2.3", ("gfx942",))
    assert len(release.diff_ids) == len(release.layer_sizes)
    assert pushed
    assert "straight to 127.0.0.1:9" in notes[0]
    assert list(staging.iterdir()) == []


def test_the_image_is_asked_for_the_files_that_tell_of_it_by_its_own_python(tmp_path: Path) -> None:
    about = tmp_path / "vllm-0.12.0.dist-info/METADATA"
    about.parent.mkdir()
    about.write_text("Version: 0.12.0\n")
    done = subprocess.run(
        (sys.executable, "-c", TELL), env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert str(about).lstrip("/") in tar.getnames()
