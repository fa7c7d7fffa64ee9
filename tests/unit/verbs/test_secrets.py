"""Missing secrets end a command before anything is touched: all of them at once, each with the place that asks for it."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.cli import guarded
from fleet.errors import FleetError, InputError
from fleet.inventory import load
from fleet.options import Options
from fleet.secret import Secret
from fleet.verbs import bundle, images, roll, secrets, services
from fleet.verbs.order import Order

INVENTORY = """\
all:
  vars:
    fleet:
      image:
        name: vllm-rocm
        source:
          ref: v0.11.0
          git_password: {env: NO_GIT}
      registry:
        host: registry.corp:5000
        username: {env: THERE}
        password: {file: /nowhere/registry}
      registries:
        mirror.corp:
          password: {env: NO_MIRROR}
      services:
        chat:
          model: m
          secrets:
            HF_TOKEN: {env: NO_TOKEN}
            VLLM_API_KEY: {command: [sh, -c, "exit 3"]}
        embed:
          model: e
          port: 8001
          registry:
            host: other.corp
            username: {env: THERE}
            password: {env: NO_OTHER}
  hosts:
    n1:
    n2:
"""
BUILD = (
    "prod.yaml:8:31: fleet.image.source.git_password: $NO_GIT is not set (export NO_GIT=…)",
    "prod.yaml:15:27: fleet.registries.mirror.corp.password: $NO_MIRROR is not set (export NO_MIRROR=…)",
    "prod.yaml:12:26: fleet.registry.password: cannot read /nowhere/registry: No such file or directory",
    "prod.yaml:28:29: fleet.services.embed.registry.password: $NO_OTHER is not set (export NO_OTHER=…)",
)
SERVE = (
    "prod.yaml:20:29: fleet.services.chat.secrets.HF_TOKEN: $NO_TOKEN is not set (export NO_TOKEN=…)",
    "prod.yaml:21:37: fleet.services.chat.secrets.VLLM_API_KEY: `sh` exited with 3 (run it by hand)",
)


class Touched(Exception):  # noqa: N818
    """Something beyond the inventory was reached for."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's directory whose commands cannot connect and cannot make images."""

    @contextmanager
    def connected(_options: Options) -> Iterator[None]:
        raise Touched
        yield

    def obtain(*_: object, **__: object) -> None:
        raise Touched

    monkeypatch.chdir(tmp_path)
    for name in ("NO_GIT", "NO_TOKEN", "NO_OTHER", "NO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THERE", "ops")
    for module in (bundle, images, roll, services):
        monkeypatch.setattr(module, "connected", connected)
    for module in (bundle, images):
        monkeypatch.setattr(module, "obtain", obtain)
    (tmp_path / "prod.yaml").write_text(INVENTORY)
    return tmp_path


def told(error: InputError) -> tuple[str, ...]:
    return tuple(map(str, error.problems))


OPTIONS = Options(inventory=("prod.yaml",))
COMMANDS: dict[str, tuple[Callable[[], int], tuple[str, ...]]] = {
    "build": (lambda: images.build(OPTIONS, update=False, publish=False), BUILD),
    "push": (lambda: images.build(OPTIONS, update=False, publish=True), BUILD),
    "build --check": (
        lambda: images.build(Options(inventory=("prod.yaml",), check=True), update=False, publish=False),
        BUILD,
    ),
    "deploy": (lambda: roll.roll(OPTIONS, Order("deploy")), BUILD + SERVE),
    "plan": (lambda: roll.roll(Options(inventory=("prod.yaml",), check=True), Order("plan")), BUILD + SERVE),
    "serve": (lambda: roll.roll(OPTIONS, Order("serve", stages=frozenset({"serve"}))), BUILD + SERVE),
    "distribute": (lambda: roll.roll(OPTIONS, Order("deploy", stages=frozenset({"image", "distribute"}))), BUILD),
    "verify": (lambda: services.verify(OPTIONS), BUILD + SERVE),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_every_secret_that_it_lacks_and_reaches_for_nothing(
    site: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    work, expected = COMMANDS[command]
    with pytest.raises(InputError) as caught:
        work()
    assert sorted(told(caught.value)) == sorted(expected)
    assert guarded(work) == 2
    said = capsys.readouterr().err
    assert [line for line in expected if line not in said] == []
    assert not (site / ".fleet").exists()


def test_a_secret_that_many_hosts_share_is_told_once(site: Path) -> None:
    hosts = tuple(load(("prod.yaml",)).hosts.values())
    assert len(hosts) == 2
    with pytest.raises(InputError) as caught:
        secrets.require(hosts)
    assert len(caught.value.problems) == len(BUILD + SERVE)


def test_a_run_from_a_bundle_needs_only_the_registries_that_hosts_pull_from(site: Path) -> None:
    with pytest.raises(InputError) as caught:
        secrets.require(load(("prod.yaml",)).hosts.values(), images=False)
    assert sorted(told(caught.value)) == sorted(BUILD[2:] + SERVE)
    (site / "prod.yaml").write_text(INVENTORY.replace("    fleet:\n", "    fleet:\n      delivery: sideload\n"))
    with pytest.raises(InputError) as caught:
        secrets.require(load(("prod.yaml",)).hosts.values(), images=False)
    assert [problem.path.split(".")[-1] for problem in caught.value.problems] == ["HF_TOKEN", "VLLM_API_KEY"]


def test_what_is_there_is_no_problem(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "password").write_text("p\n")
    text = INVENTORY.replace("/nowhere/registry", str(site / "password")).replace("exit 3", "echo key")
    (site / "prod.yaml").write_text(text)
    for name in ("NO_GIT", "NO_TOKEN", "NO_OTHER", "NO_MIRROR"):
        monkeypatch.setenv(name, "x")
    secrets.require(load(("prod.yaml",)).hosts.values())
    with pytest.raises(Touched):
        images.build(OPTIONS, update=False, publish=True)


def test_a_password_of_the_connection_counts_as_well(site: Path) -> None:
    (site / "prod.yaml").write_text("all: {hosts: {n1: {ansible_become_password: right, ansible_password: also}}}")
    secrets.require(load(("prod.yaml",)).hosts.values())


def test_the_same_reference_in_two_places_is_two_problems(site: Path) -> None:
    text = INVENTORY.replace("NO_OTHER", "NO_GIT")
    (site / "prod.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        secrets.require(load(("prod.yaml",)).hosts.values(), services=False)
    assert [one.path for one in caught.value.problems if "NO_GIT" in one.message] == [
        "fleet.image.source.git_password",
        "fleet.services.embed.registry.password",
    ]


@pytest.mark.parametrize("kind", ["env", "file", "command"])
def test_a_secret_that_is_no_text_is_told_without_its_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(b"pass\xff\xfeword\n")
    monkeypatch.setitem(os.environb, b"RAW_KEY", b"pass\xff\xfeword")
    secret = {
        "env": Secret("x", env="RAW_KEY"),
        "file": Secret("x", file=str(tmp_path / "key")),
        "command": Secret("x", command=("cat", str(tmp_path / "key"))),
    }[kind]
    with pytest.raises(FleetError, match="is not UTF-8 text") as caught:
        secret.reveal()
    assert "pass" not in "".join(traceback.format_exception(caught.value))
