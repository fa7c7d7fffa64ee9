"""Taking away: never by force, never what a name has gone to meanwhile, and a failure keeps nothing else from going."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import docker.errors
import pytest

from fleet.errors import FleetError
from fleet.prune import builder, controller
from fleet.prune.builder import RemoveBuilt
from fleet.prune.controller import RemoveFile
from fleet.prune.facts import PrunePlan, RemoveContainer, RemoveImage, RemoveVolume, Room
from fleet.prune.hosts import PartlyError, _sizes, carry_out
from fleet.seam import Bare
from fleet.transport import Output


@dataclass
class Engine:
    """An engine with these names (name -> image); it refuses what is in use."""

    names: dict[str, str]
    used: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)

    @property
    def api(self) -> "Engine":
        return self

    @property
    def images(self) -> "Engine":
        return self

    def get(self, name: str) -> SimpleNamespace:
        if name not in self.names:
            raise docker.errors.NotFound("no such image")
        return SimpleNamespace(id=self.names[name])

    def remove_image(self, name: str, *, force: bool) -> None:
        self._remove(name, force=force)

    def remove_container(self, name: str) -> None:
        self._remove(name)

    def remove_volume(self, name: str) -> None:
        self._remove(name)

    def _remove(self, name: str, *, force: bool = False) -> None:
        assert not force
        if name in self.used:
            raise docker.errors.APIError("conflict", explanation=f"{name} is in use")
        self.gone.append(name)


def image(name: str, *references: str) -> RemoveImage:
    return RemoveImage("sha256:1", name, references, 5, "")


def run(engine: Engine, monkeypatch: pytest.MonkeyPatch, *steps: Any) -> list[Any]:
    monkeypatch.setattr("fleet.prune.hosts.docker_client", lambda *_, **__: engine)
    session = cast("Any", SimpleNamespace(host=SimpleNamespace(name="n1")))
    return carry_out(PrunePlan(steps), session, Bare(), lambda _line: None)


def test_a_name_that_went_to_another_image_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine({"ours:1": "sha256:1", "moved:1": "sha256:2"})
    done = run(engine, monkeypatch, image("ours:1", "ours:1", "moved:1", "gone:1"))
    assert engine.gone == ["ours:1"]
    assert len(done) == 1


def test_sizes_of_volumes_are_seen_by_root_and_asked_of_a_young_engine_by_others() -> None:
    """An old engine would walk through everything for them, and one that does not answer fails no prune."""

    def sizes(seen: str, version: str, answer: Any) -> dict[str, int]:
        def get(_url: str, *, params: dict[str, str]) -> SimpleNamespace:
            assert params == {"type": "volume"}
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(json=lambda: answer)

        session: Any = SimpleNamespace(script=lambda *_, **__: Output(0, seen, ""), host=SimpleNamespace(name="n1"))
        client: Any = SimpleNamespace(api=SimpleNamespace(base_url="http://docker", api_version=version, get=get))
        return _sizes({"a": "/v/a/_data", "b": "/v/b/_data"}, session, client)

    told = {
        "Volumes": [{"Name": "a", "UsageData": {"Size": 7}}, {"Name": "x", "UsageData": {"Size": 9}}, {"Name": "b"}]
    }
    assert sizes("8\t/v/a/_data\n", "1.45", told) == {"a": 8192}
    assert sizes("", "1.45", told) == {"a": 7, "b": 0}
    assert sizes("", "1.41", AssertionError()) == {}
    assert sizes("", "1.45", docker.errors.APIError("busy")) == {}


def test_a_failure_is_said_and_keeps_nothing_else_from_going(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine({"a:1": "sha256:1"}, used={"a:1", "box"})
    volume = RemoveVolume("cache", "")
    with pytest.raises(
        PartlyError, match=r"could not remove container chat-0-previous.*box is in use.*1 more"
    ) as caught:
        run(engine, monkeypatch, RemoveContainer("box", "chat-0-previous", ""), image("a:1", "a:1"), volume)
    assert engine.gone == ["cache"]
    assert caught.value.done == [volume]


def test_old_files_of_the_controller_are_read_and_removed(tmp_path: Path) -> None:
    run_of = tmp_path / "runs/20260101"
    (run_of / "hosts").mkdir(parents=True)
    (run_of / "hosts/a.log").write_text("12345")
    log = tmp_path / "logs/build.log"
    log.parent.mkdir()
    log.write_text("123")
    for path in (run_of, run_of / "hosts", run_of / "hosts/a.log", log):
        os.utime(path, (1000, 1000))
    runs, logs = controller.read(tmp_path, 5000.0)
    assert [(one.path, one.age, one.busy) for one in (*runs, *logs)] == [(run_of, 4000.0, False), (log, 4000.0, False)]
    assert logs[0].size == 3
    for path in (run_of, log, log):
        controller.remove(RemoveFile(path, 1, ""))
    assert not run_of.exists()
    assert not log.exists()


def test_nights_beyond_those_that_are_kept_go_the_oldest_first(tmp_path: Path) -> None:
    nights = [tmp_path / name for name in ("1", "2", "3")]
    for one in nights:
        one.mkdir()
    assert [step.path for step in controller.plan_nights(nights, 2)] == nights[:1]
    assert controller.plan_nights(nights, 3) == ()
    assert controller.read_room(tmp_path / "not-there").free > 0


def test_what_killed_builds_left_on_a_builder_is_found_with_its_size_and_removed() -> None:
    asked: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...]) -> Output:
        asked.append(argv)
        return Output(0, "2048\t/var/tmp/fleet/build-0a1b\n" if argv[0] == "find" else "", "")

    machine: Any = SimpleNamespace(name="builder", run=run)
    (step,) = builder.read_left(machine, "/var/tmp/fleet")
    assert (step.what, step.size) == ("remove /var/tmp/fleet/build-0a1b", 2 << 20)
    builder.run(step, machine)
    assert asked[-1] == ("rm", "-rf", "--", "/var/tmp/fleet/build-0a1b")
    assert builder.BEGUN == ("-name", "build-*", "-mtime", "+2")


def test_the_room_of_a_builder_is_that_below_dockers_root_directory() -> None:
    table = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /data\n"

    def machine(said: str) -> Any:
        words = {"docker": "/data/docker\n", "df": said}
        return SimpleNamespace(name="builder", run=lambda argv: Output(0, words[argv[0]], ""))

    assert builder.read_room(machine(table)) == Room(60 << 10, 40 << 10)
    assert builder.read_room(machine("")) == Room()


def test_a_builder_that_refuses_is_an_error_and_what_is_gone_is_none() -> None:
    def machine(complaint: str) -> Any:
        return SimpleNamespace(name="builder", run=lambda _argv: Output(1, "", complaint))

    builder.run(RemoveBuilt("vllm:build-1", 1, ""), machine("Error: No such image: vllm:build-1"))
    with pytest.raises(FleetError, match="container 12ab is using it"):
        builder.run(RemoveBuilt("vllm:build-1", 1, ""), machine("conflict: container 12ab is using it"))
