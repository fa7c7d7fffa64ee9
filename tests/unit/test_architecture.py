"""The layers, seen in the imports: who may know whom, and who may print."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLEET = Path(__file__).parents[2] / "fleet"
MODULES = sorted(FLEET.rglob("*.py"))
PRODUCT = [path for path in MODULES if "lab" not in path.relative_to(FLEET).parts[:1]]
DOOR = FLEET / "tasks/__init__.py"  # the command line offers lab.* and is the one door
PURE = (
    "inventory",
    "preflight",
    "playbook",
    "prepare/plan.py",
    "prepare/fix.py",
    "prune/plan.py",
    "prune/facts.py",
    "serving/spec.py",
    "serving/diff.py",
    "serving/plan.py",
    "serving/planning.py",
    "serving/replacing.py",
    "serving/placement.py",
)
EFFECTS = ("subprocess", "socket", "paramiko", "fabric", "docker", "time")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identity(path: Path) -> str:
    return path.relative_to(FLEET).as_posix()


@pytest.mark.parametrize("path", [path for path in PRODUCT if path != DOOR], ids=identity)
def test_the_product_does_not_know_the_lab(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("fleet.lab")]
    names = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert not [name for name in names if name.lower() == "lab"]


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_only_reports_and_tasks_print(path: Path) -> None:
    if "report" in path.parts or path.name in ("tasks.py", "report.py"):
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@pytest.mark.parametrize(
    "path", [path for path in PRODUCT if any(identity(path).startswith(pure) for pure in PURE)], ids=identity
)
def test_planners_and_values_reach_for_no_effect(path: Path) -> None:
    assert not [name for name in imports(path) if name.partition(".")[0] in EFFECTS]
