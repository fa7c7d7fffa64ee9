"""From a function to an Invoke task: common options, defaults from config and environment, errors, exit codes.

A verb is a function of `options` (if it asks for them) and its own flags that gives an exit code or None. Exit codes: 0 all well, 1 at least one host failed,
2 bad input and nothing touched, 130 interrupted.
"""

import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import Any, cast

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from fleet.arguments import Checked
from fleet.errors import FleetError
from fleet.options import configured, resolve

HELP: Mapping[str, str] = {
    "inventory": "A YAML inventory, a directory of them, or a name below inventories/. May be repeated.",
    "limit": "Ansible host pattern, for example 'mi300x:!vault' or '~gpu-0[1-4]'.",
    "forks": "How many hosts at once (default 32).",
    "check": "Show what would be done and why, and do nothing.",
    "diff": "Show what differs, old and new.",
    "json": "Print one JSON document on standard output.",
    "verbose": "Say more.",
    "accept-new": "Write the host keys of hosts never seen before to known_hosts, and say so.",
}
HOSTS = ("inventory", "limit")
CONNECT = (*HOSTS, "forks", "accept_new", "json", "verbose")
CHANGE = (*CONNECT, "check", "diff")

LETTERS = {
    "inventory": "i",
    "limit": "l",
    "forks": "f",
    "check": "c",
    "diff": "d",
    "json": "j",
    "verbose": "v",
}
HELP_LETTER = "h"  # Invoke's own
# What makes a command less safe, or removes things, is never said by a slip of a letter.
LETTERLESS = frozenset({"accept_new", "unsigned", "prune", "take_over"})

_UNSET: Mapping[str, object] = {"inventory": [], "limit": None, "forks": 0}


class _Verb(Task[Any]):
    """Its arguments are checked. And Invoke takes the help texts out of a task when it asks for them; ours may be asked
    more than once.
    """

    letters: Mapping[str, str]  # of flags that have one

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
        opts = super().arg_opts(name, default, taken_names)
        opts["names"] = (*opts["names"], *self.letters.get(name, ""))
        return opts

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        texts = dict(self.help)
        try:
            arguments = super().get_arguments(ignore_unknown_help)
        finally:
            self.help = texts
        for argument in arguments:
            argument.__class__ = Checked  # Invoke makes them itself, and has no other place to say so
        return arguments


def verb(
    *common: str,
    example: str,
    name: str | None = None,
    default: bool = False,
    optional: tuple[str, ...] = (),
    letters: Mapping[str, str] = MappingProxyType({}),
    shared: Mapping[str, str] = MappingProxyType({}),
    **flag_help: str,
) -> Callable[[Callable[..., int | None]], Task[Any]]:
    """An Invoke task of a function of its own flags and, if it names them, `options`; `common` says which it takes.

    Flags in `optional` may stand without a value, and are True then. Short letters mean the same everywhere: common flags have
    theirs, other flags their first one unless it is a common flag's or taken, or `letters` says otherwise. `shared` are help texts
    that verbs have in common.
    """

    def decorate(body: Callable[..., int | None]) -> Task[Any]:
        parameters = inspect.signature(body).parameters
        own = [parameter for name, parameter in parameters.items() if name != "options"]

        def run(context: Context, **given: Any) -> None:
            mine = {p.name: given.pop(p.name) for p in own}

            def work() -> int | None:
                options = resolve(given, configured(context.config.get("fleet", {})), os.environ)
                return body(options=options, **mine) if "options" in parameters else body(**mine)

            code = guarded(work)
            if code:
                raise Exit(code=code)

        flags = [
            inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=_UNSET.get(flag, False)) for flag in common
        ]
        context_parameter = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own_flags = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        positional = tuple(p.name for p in own if p.default is inspect.Parameter.empty)
        run.__signature__ = inspect.Signature([context_parameter, *own_flags, *flags])  # type: ignore[attr-defined]  # typeshed has no such attribute on functions; inspect documents it
        run.__name__ = name or body.__name__
        run.__doc__ = f"{(body.__doc__ or '').strip()}\n\nExample: {example}"
        texts = {flag.replace("_", "-"): HELP[flag.replace("_", "-")] for flag in common}
        texts |= {flag.replace("_", "-"): text for flag, text in {**shared, **flag_help}.items()}
        iterable = [flag for flag in ("inventory",) if flag in common]
        made = cast(
            "_Verb",
            invoke_task(
                run,
                name=name or body.__name__,
                help=texts,
                iterable=iterable,
                positional=positional,
                default=default,
                optional=optional,
                auto_shortflags=False,
                klass=_Verb,
            ),
        )  # invoke types its decorator as a plain callable
        made.letters = _letters(common, [p.name for p in own if p.name not in positional], letters)
        return made

    return decorate


def _letters(common: Sequence[str], own: Sequence[str], said: Mapping[str, str]) -> dict[str, str]:
    found = dict(said)
    for flag in common:
        letter = LETTERS.get(flag, "")
        if letter and letter not in found.values():
            found[flag] = letter
    for flag in own:
        kept = (*found.values(), *LETTERS.values(), HELP_LETTER)
        if flag not in found and flag not in LETTERLESS and flag[0] not in kept:
            found[flag] = flag[0]
    return found


def guarded(work: Callable[[], int | None]) -> int:
    """Run a verb; turn every ending into an exit code and a message a person can use. SIGTERM ends like Ctrl-C."""
    from fleet.report import errors

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if isinstance(sys.stdout, io.TextIOWrapper):  # where it cannot say a letter, as ASCII cannot say ×, a ? does
        sys.stdout.reconfigure(errors="replace")
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        code = work() or 0
        sys.stdout.flush()
    except FleetError as error:
        errors.show(error)
        code = error.exit_code
    except KeyboardInterrupt as error:
        errors.interrupted(getattr(error, "__notes__", ()))
        code = 130
    except BrokenPipeError:
        # The reader (head, less) went away; nobody is left to tell. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001  the last fence before a user: no traceback passes it
        errors.unexpected(error)
        code = 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return code
