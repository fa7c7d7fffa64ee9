"""A playbook's file to frozen plays, or every problem at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from fleet.errors import InputError, Problem, UsageError
from fleet.inventory.judge import Kind, judge, suggestion
from fleet.inventory.nodes import Node, Place, read
from fleet.inventory.patterns import match, split
from fleet.packaged import table
from fleet.playbook.convert import play_of, stage_name
from fleet.playbook.model import Playbook
from fleet.preflight import catalogue

SUFFIXES = ("", ".yaml", ".yml", ".json")
SHIPPED = Path(str(files("fleet.playbook").joinpath("shipped")))
KIND = Kind(
    "a playbook",
    "plays",
    "there are no templates here: write the value; what differs between hosts belongs in the inventory",
    "a playbook holds no secrets; the inventory has references to them",
)
ANSIBLES = frozenset({"tasks", "roles", "pre_tasks", "post_tasks", "handlers", "gather_facts", "become", "vars"})


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a playbook."""
    loaded: dict[str, Any] = table("fleet.playbook", "schema.yaml")
    return loaded


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def load(source: str | Path, *, search: Path = Path("playbooks")) -> Playbook:
    """Read one playbook: as given, then from `search`, then one that ships; each with or without its suffix.

    Raises InputError with every problem.
    """
    path = _find(str(source), search)
    if path is None:
        raise InputError(_missing(str(source), search))
    node, problems = read(path, "playbook")
    if node is None:
        empty = Place(str(path)).problem("", "is empty", "a playbook is a list of plays: - stages: [preflight]")
        raise InputError(*(problems or [empty]))
    judged = [_ansibles(one, node) for one in judge(node, _validator(), KIND)]
    problems += judged
    if not judged:
        problems += _meant(node)
    if problems:
        raise InputError(*problems)
    return Playbook(path, tuple(play_of(inner) for inner in node.value))


def _find(source: str, search: Path) -> Path | None:
    if not source or "\0" in source:
        return None
    for base in (Path(), search, SHIPPED):
        for suffix in SUFFIXES:
            path = base / f"{source}{suffix}"
            try:
                if path.exists():
                    return path
            except OSError:  # a name that no file system takes
                return None
    return None


def _missing(source: str, search: Path) -> Problem:
    known = sorted({path.stem for directory in (search, SHIPPED) for path in directory.glob("*.y*ml")})
    return Place(source.replace("\0", "?") or "playbook").problem("", "no such playbook", f"known: {', '.join(known)}")


def _ansibles(problem: Problem, root: Node) -> Problem:
    """Somebody else's playbook is told so, rather than key by key what ours would be."""
    key = problem.path.rpartition(".")[2]
    plays = root.value if isinstance(root.value, list) else []
    theirs = any(isinstance(play.value, dict) and ANSIBLES & set(play.value) for play in plays)
    if not theirs or problem.message != "unknown key" or key not in ANSIBLES:
        return problem
    hint = "it looks like an Ansible playbook: fleet's plays have stages"
    return Place(problem.file, problem.line, problem.col).problem(problem.path, problem.message, hint)


def _meant(root: Node) -> Iterator[Problem]:
    """What the schema cannot say: names that must differ or exist, and patterns that must be patterns."""
    named = [(number, play.value["name"]) for number, play in enumerate(root.value) if "name" in play.value]
    for number, name in named:
        if sum(other.value == name.value for _, other in named) > 1:
            yield name.place.problem(f"plays[{number}].name", f"two plays are called {name.value!r}")
    for number, play in enumerate(root.value):
        path = f"plays[{number}]"
        for key in ("hosts", "canary"):
            if key in play.value and isinstance(play.value[key].value, str):
                yield from _pattern(play.value[key], f"{path}.{key}")
        stages = play.value["stages"].value
        times = Counter(map(stage_name, stages))
        order = [stage_name(stage) for stage in stages]
        if "models" in order and "serve" in order[: order.index("models")]:
            place = stages[order.index("models")].place
            where = f"{path}.stages[{order.index('models')}]"
            yield place.problem(where, "models stands behind serve", "a service needs its model before it starts")
        for at, stage in enumerate(stages):
            name = stage_name(stage)
            if times[name] > 1:
                yield stage.place.problem(f"{path}.stages[{at}]", f"{name} is there twice", "make two plays of it")
            if isinstance(stage.value, dict):
                yield from _ids(stage.value[name], f"{path}.stages[{at}].{name}")


def _pattern(node: Node, path: str) -> Iterator[Problem]:
    try:
        match((), {}, split(node.value))
    except UsageError as error:
        yield node.place.problem(path, error.message, error.hint)


def _ids(arguments: Node, path: str) -> Iterator[Problem]:
    """Ids of findings and of fixes are those of the catalogue."""
    given = arguments.value or {}
    if "accept" in given:
        accept = given["accept"]
        yield from _unknown(((key, accept.keys[key]) for key in accept.value), tuple(catalogue()), path, "accept")
    if "only" in given:
        fixes = tuple(dict.fromkeys(entry.prepare for entry in catalogue().values() if entry.prepare))
        yield from _unknown(((one.value, one.place) for one in given["only"].value), fixes, path, "only")


def _unknown(given: Iterable[tuple[str, Place]], known: tuple[str, ...], path: str, key: str) -> Iterator[Problem]:
    for name, place in given:
        if name not in known:
            hint = suggestion(name, known) if key == "only" else suggestion(name, known).partition("known here")[0]
            what = "fix" if key == "only" else "finding"
            yield place.problem(f"{path}.{key}", f"there is no {what} {name!r}", hint or "invoke preflight shows ids")
