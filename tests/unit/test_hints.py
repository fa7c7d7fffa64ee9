"""What the program tells people to type can be typed: its verbs and their flags exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

from fleet.tasks import namespace

ROOT = Path(__file__).parents[2] / "fleet"
HOLE = "HOLE"  # what an f-string fills in; `where` is filled in with flags
PROSE = frozenset({HOLE, "types", "itself"})  # words behind "invoke" that are no verbs
COMMAND = re.compile(r"(?:\binvoke|`fleet) ([a-z]+(?:\.[a-z]+)*)((?: [^\s`]+)*)")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module, or of a catalogue, with its line."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "" if isinstance(node, ast.FormattedValue) and ast.unparse(node.value) == "where" else HOLE


def commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(where, verb, words up to the end of the command)."""
    files = [*ROOT.rglob("*.py"), *ROOT.rglob("*.yaml")]
    for path in sorted(one for one in files if "lab" not in one.parts):
        for line, text in texts(path):
            for verb, rest in COMMAND.findall(text):
                yield f"{path.relative_to(ROOT)}:{line}", verb, words(rest)


def words(rest: str) -> tuple[str, ...]:
    found: list[str] = []
    for word in rest.split():
        bare = word.rstrip(".,;:)'\"")
        if bare:
            found.append(bare)
        if bare != word or (re.fullmatch("[a-z]+", word) and not (found[:-1] and found[-2].startswith("-"))):
            break
    return tuple(found)


FOUND = tuple(commands())


def arguments(task: Task[Any]) -> tuple[set[str], int]:
    """Its flags, and how many words it takes without one."""
    every = task.get_arguments()
    flags = {f"-{name}" if len(name) == 1 else f"--{name}" for one in every for name in one.names}
    flags |= {flag.replace("_", "-") for flag in flags}
    return flags, sum(one.positional for one in every)


def test_hints_are_found_at_all() -> None:
    assert len(FOUND) > 100
    assert {"unlock", "status", "runs.show", "deploy"} <= {verb for _, verb, _ in FOUND}


@pytest.mark.parametrize(("where", "verb", "rest"), sorted(set(FOUND)))
def test_a_command_that_is_told_can_be_typed(where: str, verb: str, rest: tuple[str, ...]) -> None:
    if verb in PROSE:
        return
    try:
        flags, positional = arguments(namespace[verb])
    except KeyError:
        pytest.fail(f"{where}: there is no verb {verb}")
    unknown = [word for word in rest if re.match("-[a-z-]", word) and word.partition("=")[0] not in flags]
    assert not unknown, f"{where}: invoke {verb} has no {', '.join(unknown)}"
    first = rest[0] if rest else ""
    names_something = first.isupper() or HOLE in first
    assert positional or not names_something or first.startswith("-"), f"{where}: invoke {verb} takes no {first}"
