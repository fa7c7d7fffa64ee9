"""Values on a command line that Invoke takes as they come, or ends over with a traceback."""

from typing import Any

from invoke.exceptions import Exit
from invoke.parser.argument import Argument

HELP = ("--help", "-h")


class Checked(Argument):
    """An argument that says what is wrong with its value, before anything is begun."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Raises Exit, code 2, for no number where one is asked, and for a call for help where a task's first word is."""
        if self.positional and value in HELP:
            # Invoke gives a task's first words whatever stands there.
            raise Exit(f"error: {value} stands in front of the task: invoke {value} TASK", code=2)
        if cast and self.kind is int:
            try:
                int(value)
            except ValueError:
                message = f"error: --{self.name} must be a number, not {value!r}"
                raise Exit(message, code=2) from None
        super().set_value(value, cast)


def help_first(argv: list[str]) -> list[str]:
    """`fleet TASK … --help` as Invoke understands it of every task."""
    if set(HELP) & set(argv[2:]) and not argv[1].startswith("-"):
        return [argv[0], HELP[0], argv[1]]
    return argv
