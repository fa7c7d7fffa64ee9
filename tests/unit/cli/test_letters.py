"""Short flags of all verbs: one letter means one thing wherever a common flag has it."""

from collections.abc import Iterator
from typing import Any

from invoke.collection import Collection
from invoke.tasks import Task

from fleet.cli import LETTERLESS, LETTERS
from fleet.tasks import namespace


def verbs(collection: Collection, prefix: str = "") -> Iterator[tuple[str, Task[Any]]]:
    for name, task in collection.tasks.items():
        yield f"{prefix}{name}", task
    for name, inner in collection.collections.items():
        yield from verbs(inner, f"{prefix}{name}.")


def letters(task: Task[Any]) -> dict[str, str]:
    """Letter to flag, with underscores."""
    found: dict[str, str] = {}
    for argument in task.get_arguments():
        found |= {name: str(argument.name).replace("-", "_") for name in argument.names if len(name) == 1}
    return found


def test_common_flags_have_their_letter_everywhere_and_no_other_flag_has_it() -> None:
    wrong = {
        name: {letter: flag}
        for name, task in verbs(namespace)
        for letter, flag in letters(task).items()
        if LETTERS.get(flag, letter) != letter or (letter in LETTERS.values() and flag not in LETTERS)
    }
    assert wrong == {"logs": {"f": "follow"}}  # as docker's and kubectl's


def test_neither_help_nor_what_is_less_safe_has_a_letter_of_a_verb() -> None:
    for _name, task in verbs(namespace):
        found = letters(task)
        assert "h" not in found
        assert not LETTERLESS & set(found.values())
        assert all(letter.isalpha() for letter in found)
