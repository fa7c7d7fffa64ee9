"""The layers, seen in the imports: who may know whom, and who may print."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

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


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of the module, parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identity(path: Path) -> str:
    return path.relative_to(FLEET).as_posix()


def named(found: Iterable[tuple[Path, str]]) -> list[str]:
    return [f"{identity(path)}: {what}" for path, what in found]


def test_the_product_does_not_know_the_lab() -> None:
    inside = [path for path in PRODUCT if path != DOOR]
    assert len(inside) > 100
    assert not named((path, name) for path in inside for name in imports(path) if name.startswith("fleet.lab"))
    names = ((path, node.id) for path in inside for node in nodes(path) if isinstance(node, ast.Name))
    assert not named((path, name) for path, name in names if name.lower() == "lab")


def test_only_reports_and_tasks_print() -> None:
    silent = [path for path in MODULES if "report" not in path.parts and path.name not in ("tasks.py", "report.py")]
    calls = ((path, node.func) for path in silent for node in nodes(path) if isinstance(node, ast.Call))
    assert not named((path, call.id) for path, call in calls if isinstance(call, ast.Name) and call.id == "print")


def test_planners_and_values_reach_for_no_effect() -> None:
    pure = [path for path in PRODUCT if identity(path).startswith(PURE)]
    assert len(pure) > len(PURE)
    assert not named((path, name) for path in pure for name in imports(path) if name.partition(".")[0] in EFFECTS)
