"""Fixes carried out on a host that is a few files and settings: what is changed, kept, put back, and said."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import pytest

from fleet.errors import HostError
from fleet.inventory.settings import Registry, Service, Settings
from fleet.prepare import carry_out, look, make_ready, plan
from fleet.seam import Bare, Described
from fleet.transport import Session
from fleet.transport.output import Output

RECORD = (Path(__file__).parents[2] / "data/probe/live-mi300x8.txt").read_text("utf-8")
DAEMON = "/etc/docker/daemon.json"
SYSCTL = "/etc/sysctl.d/90-fleet.conf"
CA = "/etc/docker/certs.d/registry:5000/ca.crt"


@dataclass
class Pretended:
    """A host of files and one kernel setting. It refuses every command that it does not know."""

    files: dict[str, str]
    settings: Settings
    numa: int = 1
    broken: frozenset[str] = frozenset()  # commands that fail
    deaf: bool = False  # sysctl says yes and does nothing
    alive: bool = True
    ran: list[tuple[str, ...]] = field(default_factory=list)
    host: Any = None

    def __post_init__(self) -> None:
        self.host = SimpleNamespace(name="gpu-1", settings=self.settings, connection=None)

    def script(self, _text: str, **_: object) -> Output:
        return Output(0, self._probe(), "")

    def run(self, argv: Sequence[str], *, check: bool = True, **_: object) -> Output:
        self.ran.append(tuple(argv))
        output = self._run(tuple(argv))
        if check and not output.ok:
            raise HostError("gpu-1", f"`{' '.join(argv)}` exited with {output.exit_code}")
        return output

    def upload(self, source: BinaryIO, path: str, **_: object) -> None:
        if "upload" in self.broken:
            raise HostError("gpu-1", "no room")
        self.files[path] = source.read().decode()

    def _run(self, argv: tuple[str, ...]) -> Output:
        if argv[0] in self.broken:
            return Output(1, "", "no")
        match argv:
            case ("sh", "-c", text, "sh", path) if "exit 44" in text:
                return Output(0, f"644\n{self.files[path]}", "") if path in self.files else Output(44, "", "")
            case ("sh", "-c", text, "sh", path) if "cp -p" in text:
                self.files[f"{path}.before-fleet.1"] = self.files[path]
                return Output(0, f"{path}.before-fleet.1\n", "")
            case ("sysctl", "-q", "-w", setting):
                self.numa = self.numa if self.deaf else int(setting[-1])
            case ("mv", "-f", kept, path):
                self.files[path] = self.files.pop(kept)
            case ("rm", "-f", path):
                self.files.pop(path, None)
            case ("mkdir", "-p", _) | ("dockerd", "--validate", _):
                pass
            case _:
                raise AssertionError(f"unknown here: {argv}")
        return Output(0, "", "")

    def _probe(self) -> str:
        token = RECORD.split(" ", 1)[0]
        size = re.findall(r'"max-size" *: *"[^"]*"', self.files.get(DAEMON, ""))
        lines = [*size, *(["ca registry:5000"] if CA in self.files else [])]
        text = re.sub(r"(proc/sys/kernel/numa_balancing):\d", rf"\g<1>:{self.numa}", RECORD)
        return text.replace(f"{token} end", "\n".join([f"{token} engine_config", *lines, f"{token} end"]))


def pretended(tmp_path: Path, **changes: Any) -> Pretended:
    pem = tmp_path / "ca.pem"
    pem.write_text("PEM\n")
    registry = Registry(host="registry:5000", ca_file=str(pem))
    settings = Settings(registry=registry, services={"chat": Service(name="chat", model="tiny")})
    return Pretended({DAEMON: '{"dns": ["10.0.0.1"]}'}, settings, **changes)


def session(host: Pretended) -> Session:
    return cast("Session", host)


def fixes(host: Pretended, *only: str) -> Any:
    facts, findings = look(session(host))
    return plan(findings, facts, host.settings, only=only)


class Watching:
    """A seam that notes what passes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def perform(self, host: str, step: Described, do: Callable[[], None], /) -> None:
        self.seen.append((host, step.what, step.why))
        do()


def test_every_fix_passes_the_seam_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    host, seam, said = pretended(tmp_path), Watching(), list[str]()
    assert make_ready(session(host), seam, say=said.append) == 3
    assert [what for _, what, _ in seam.seen] == [
        "switch automatic NUMA balancing off",
        "limit the logs of new containers",
        "let the engine trust registry:5000",
    ]
    assert seam.seen[0][2] == "kernel.numa_balancing is 1"
    assert host.numa == 0
    assert host.files[SYSCTL] == "kernel.numa_balancing = 0\n"
    assert host.files[CA] == "PEM\n"
    assert json.loads(host.files[DAEMON]) == {"dns": ["10.0.0.1"], "log-opts": {"max-file": "3", "max-size": "50m"}}
    assert host.files[f"{DAEMON}.before-fleet.1"] == '{"dns": ["10.0.0.1"]}'
    before = dict(host.files)
    assert make_ready(session(host), seam) == 0
    assert host.files == before
    assert len(seam.seen) == 3


def test_undo_lines_that_are_said_undo(tmp_path: Path) -> None:
    host, said = pretended(tmp_path), list[str]()
    before = dict(host.files)
    make_ready(session(host), say=said.append)
    undo = [line.partition("to undo it: ")[2].split("; ") for line in said if "to undo it" in line]
    for command in (command for line in undo for command in line):
        host.run(command.split(" "))
    assert (host.files, host.numa) == (before, 1)


def test_dockerd_is_neither_restarted_nor_signalled_and_that_is_said(tmp_path: Path) -> None:
    host, said = pretended(tmp_path), list[str]()
    carry_out(fixes(host, "docker_logs"), session(host), Bare(), say=said.append)
    assert not [argv for argv in host.ran if argv[0] in ("systemctl", "service", "kill", "pkill")]
    assert any("neither restarted nor reloaded" in line for line in said)


def test_done_without_effect_is_not_changed(tmp_path: Path) -> None:
    host = pretended(tmp_path, deaf=True)
    with pytest.raises(HostError, match=r"a fresh look still finds: kernel\.numa_balancing is 1"):
        carry_out(fixes(host, "numa_balancing"), session(host), Bare())


def test_a_fix_that_fails_puts_its_file_back_and_the_others_are_done(tmp_path: Path) -> None:
    host = pretended(tmp_path, broken=frozenset({"sysctl"}))
    with pytest.raises(HostError, match="switch automatic NUMA balancing off"):
        make_ready(session(host))
    assert SYSCTL not in host.files
    assert CA in host.files
    assert "log-opts" in host.files[DAEMON]


def test_a_write_that_fails_leaves_the_file_and_no_copy_behind(tmp_path: Path) -> None:
    host = pretended(tmp_path, broken=frozenset({"upload"}))
    before = dict(host.files)
    with pytest.raises(HostError, match="3 fixes failed"):
        make_ready(session(host))
    assert host.files == before


def test_settings_that_are_no_json_are_left_as_they_are(tmp_path: Path) -> None:
    host = pretended(tmp_path)
    host.files[DAEMON] = "{broken"
    with pytest.raises(HostError, match=r"daemon\.json is not JSON") as caught:
        carry_out(fixes(host, "docker_logs"), session(host), Bare())
    assert caught.value.hint == "it was left as it is"
    assert host.files[DAEMON] == "{broken"


def test_a_lost_connection_ends_it_at_once(tmp_path: Path) -> None:
    host = pretended(tmp_path)
    chosen = fixes(host)
    host.alive, host.broken = False, frozenset({"sh"})
    host.ran.clear()
    with pytest.raises(HostError):
        carry_out(chosen, session(host), Bare())
    assert len(host.ran) == 1


def test_nothing_to_do_reads_nothing(tmp_path: Path) -> None:
    host = pretended(tmp_path)
    assert carry_out((), session(host), Bare()) == 0
    assert host.ran == []
