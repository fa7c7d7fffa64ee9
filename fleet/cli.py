"""From a function to an Invoke task: common options, defaults from config and environment, errors, exit codes.

A verb is a function of `options` (if it asks for them) and its own flags that gives an exit code or None. Exit codes: 0 all well, 1 at least one host failed,
2 bad input and nothing touched, 130 interrupted.
"""

import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import FrameType, MappingProxyType
from typing import Any, cast

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from fleet.arguments import Checked
from fleet.errors import FleetError, UsageError


@dataclass(frozen=True)
class Options:
    """The common options, each from its flag, else FLEET_<NAME>, else `fleet:` in Invoke's config, else a default."""

    inventory: tuple[str, ...] = ()
    limit: str = "all"
    forks: int = 32
    check: bool = False
    diff: bool = False
    json: bool = False
    verbose: bool = False
    accept_new: bool = False
    started: float = 0.0  # time.monotonic() at the start of the command


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

_UNSET: Mapping[str, object] = {"inventory": [], "limit": None, "forks": 0}
_TRUE = frozenset({"1", "true", "yes", "on"})


class _Verb(Task[Any]):
    """Its arguments are checked. And Invoke takes the help texts out of a task when it asks for them; ours may be asked
    more than once.
    """

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
    late: Collection[str] = (),
    shared: Mapping[str, str] = MappingProxyType({}),
    **flag_help: str,
) -> Callable[[Callable[..., int | None]], Task[Any]]:
    """An Invoke task of a function of its own flags and, if it names them, `options`; `common` says which it takes.

    Flags in `optional` may stand without a value, and are True then. Those in `late` take the short letters that the common
    flags leave. `shared` are help texts that verbs have in common.
    """

    def decorate(body: Callable[..., int | None]) -> Task[Any]:
        parameters = inspect.signature(body).parameters
        own = [parameter for name, parameter in parameters.items() if name != "options"]

        def run(context: Context, **given: Any) -> None:
            mine = {p.name: given.pop(p.name) for p in own}

            def work() -> int | None:
                options = resolve(given, _configured(context), os.environ)
                return body(options=options, **mine) if "options" in parameters else body(**mine)

            code = guarded(work)
            if code:
                raise Exit(code=code)

        flags = [
            inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=_UNSET.get(flag, False)) for flag in common
        ]
        # Invoke gives out short flags in this order, and -i and -l mean the same everywhere.
        hosts = [flag for flag in flags if flag.name in HOSTS]
        rest = [flag for flag in flags if flag.name not in HOSTS]
        context_parameter = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name not in late]
        last = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name in late]
        positional = tuple(p.name for p in own if p.default is inspect.Parameter.empty)
        run.__signature__ = inspect.Signature([context_parameter, *hosts, *keyword_only, *rest, *last])  # type: ignore[attr-defined]  # typeshed has no such attribute on functions; inspect documents it
        run.__name__ = name or body.__name__
        run.__doc__ = f"{(body.__doc__ or '').strip()}\n\nExample: {example}"
        texts = {flag.replace("_", "-"): HELP[flag.replace("_", "-")] for flag in common}
        texts |= {flag.replace("_", "-"): text for flag, text in {**shared, **flag_help}.items()}
        iterable = [flag for flag in ("inventory",) if flag in common]
        made = invoke_task(
            run,
            name=name or body.__name__,
            help=texts,
            iterable=iterable,
            positional=positional,
            default=default,
            optional=optional,
            klass=_Verb,
        )
        return cast("Task[Any]", made)  # invoke types its decorator as a plain callable

    return decorate


def resolve(given: Mapping[str, Any], configured: Mapping[str, Any], environ: Mapping[str, str]) -> Options:
    """Options from flags, FLEET_* and config, in that order. Raises UsageError for a value of the wrong type."""
    values: dict[str, Any] = {"started": time.monotonic()}
    if given.get("limit") == "":
        raise UsageError("--limit is empty", hint="leave it out for every host; is the variable in it set?")
    for flag in given:
        value = given[flag] or environ.get(f"FLEET_{flag.upper()}") or configured.get(flag)
        if value in (None, "", [], ()):
            continue
        values[flag] = _typed(flag, value)
    return Options(**values)


def _typed(flag: str, value: Any) -> object:
    if flag == "inventory":
        return (value,) if isinstance(value, str) else tuple(value)
    if flag == "limit":
        return str(value)
    if flag == "forks":
        try:
            forks = int(value)
        except (TypeError, ValueError):
            forks = 0
        if forks < 1:
            raise UsageError(f"forks must be a number above 0, not {value!r}", hint="for example --forks 16")
        return forks
    return value if isinstance(value, bool) else str(value).lower() in _TRUE


def duration(text: str, flag: str) -> float:
    """`90`, `90s`, `5m` or `1h` in seconds; 0 for an empty text. Raises UsageError."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text or "0", 1)
    if not number.isdigit():
        raise UsageError(f"{flag} {text!r} is no time", hint="for example 90s, 5m or 1h")
    return float(number) * unit


def words(text: str) -> frozenset[str]:
    """`a,b` as both; nothing for an empty text."""
    return frozenset(word for word in text.split(",") if word)


def _configured(context: Context) -> Mapping[str, Any]:
    fleet = context.config.get("fleet", {})
    if not hasattr(fleet, "items"):
        raise UsageError(f"`fleet` in Invoke's config is no mapping: {fleet!r}", hint="fleet: {inventory: prod.yaml}")
    return {str(key).replace("-", "_"): value for key, value in fleet.items()}


def guarded(work: Callable[[], int | None]) -> int:
    """Run a verb; turn every ending into an exit code and a message a person can use. SIGTERM ends like Ctrl-C."""
    from fleet.report import errors

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        code = work() or 0
        sys.stdout.flush()
    except FleetError as error:
        errors.show(error)
        code = error.exit_code
    except KeyboardInterrupt:
        errors.interrupted()
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
