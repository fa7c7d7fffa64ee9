"""What stands on the command line and in Invoke's own config is checked before anything begins."""

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.arguments import help_first

FLEET = Path(sys.executable).with_name("fleet")
INVENTORY = "all: {hosts: {a: {}}}\n"


def fleet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((FLEET, *words), cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["fleet", "plan", "--help"], ["fleet", "--help", "plan"]),
        (["fleet", "models.push", "-i", "x", "--help"], ["fleet", "--help", "models.push"]),
        (["fleet", "logs", "-h"], ["fleet", "--help", "logs"]),
        (["fleet", "--help", "plan"], ["fleet", "--help", "plan"]),
        (["fleet", "--help"], ["fleet", "--help"]),
        (["fleet"], ["fleet"]),
    ],
)
def test_help_may_stand_behind_its_task(argv: list[str], asked: list[str]) -> None:
    assert help_first(argv) == asked


@pytest.mark.parametrize(
    ("words", "config", "said"),
    [
        (("prune", "--keep", "x"), "", "--keep must be a number, not 'x'"),
        (("plan", "--forks=many"), "", "--forks must be a number, not 'many'"),
        (("inventory",), "fleet: [\n", "is no YAML"),
        (("inventory",), "fleet: 3\n", "`fleet` in Invoke's config is no mapping"),
        (("inventory",), "fleet: {inventory: site.yaml, limit: nobody}\n", "no host matches 'nobody'"),
        (("--config", "x.txt", "inventory"), "", "not supported"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(tmp_path: Path, words: tuple[str, ...], config: str, said: str) -> None:
    (tmp_path / "site.yaml").write_text(INVENTORY)
    if config:
        (tmp_path / "invoke.yaml").write_text(config)
    done = fleet(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_defaults_of_the_working_directory_count(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(INVENTORY)
    (tmp_path / "invoke.yaml").write_text("fleet: {inventory: site.yaml}\n")
    done = fleet(tmp_path, "inventory")
    assert done.returncode == 0, done.stderr
    assert "a" in done.stdout
