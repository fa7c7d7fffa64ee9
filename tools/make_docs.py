"""Write the docs that are made from the code: `python tools/make_docs.py`. Tests compare the files with these texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.tasks import Task

from fleet.tasks import namespace

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """# Commands

Made by `python tools/make_docs.py` from the tasks' own help. In a checkout say `invoke VERB`, elsewhere `fleet VERB`.
The default of a flag that verbs have in common can stand in `FLEET_<FLAG>` or under `fleet:` in `invoke.yaml`. Short letters mean
the same in every verb.
"""


def commands() -> str:
    """docs/commands.md: each verb with its flags, from the Invoke namespace."""
    return "\n".join([HEAD, *(_section(name, task) for name, task in sorted(_tasks(namespace)))])


def _tasks(collection: Collection, prefix: str = "") -> Iterator[tuple[str, Task[Any]]]:
    for name, task in collection.tasks.items():
        yield (prefix.rstrip(".") if task.is_default else f"{prefix}{name}"), task
    for name, inner in collection.collections.items():
        yield from _tasks(inner, f"{prefix}{name}.")


def _section(name: str, task: Task[Any]) -> str:
    text, _, example = (task.__doc__ or "").partition("\n\nExample: ")
    lines = [f"## {name}", "", text.strip(), "", f"    {example.strip()}", ""]
    flags = [argument for argument in task.get_arguments() if not argument.positional]
    if flags:
        rows = [f"| {_names(argument.names)} | {argument.help or ''} |" for argument in flags]
        lines += ["| flag | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _names(names: tuple[str, ...]) -> str:
    shown = (f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}" for name in sorted(names, key=len))
    return ", ".join(f"`{name}`" for name in shown)


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
