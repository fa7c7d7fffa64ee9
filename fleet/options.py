"""The common options of verbs, from flags, FLEET_* variables and Invoke's config; and what the values of flags mean."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fleet.errors import InputError, Problem, UsageError


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


_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_DEFAULTS = tuple(name for name in Options.__dataclass_fields__ if name != "started")  # what may stand in the config
CONFIG = "`fleet:` in Invoke's config"


def configured(fleet: Any) -> Mapping[str, Any]:
    """What stands under `fleet:` in Invoke's config, by names as in Options. Raises UsageError."""
    if not hasattr(fleet, "items"):
        raise UsageError(f"`fleet` in Invoke's config is no mapping: {fleet!r}", hint="fleet: {inventory: prod.yaml}")
    return {str(key).replace("-", "_"): value for key, value in fleet.items()}


def resolve(given: Mapping[str, Any], configured: Mapping[str, Any], environ: Mapping[str, str]) -> Options:
    """Options from flags, FLEET_* and config, in that order. Raises UsageError or InputError for what cannot be meant."""
    if given.get("limit") == "":
        raise UsageError("--limit is empty", hint="leave it out for every host; is the variable in it set?")
    values: dict[str, Any] = {"started": time.monotonic()}
    problems = [_unknown(key) for key in configured if key not in _DEFAULTS]
    for flag in given:
        variable = f"FLEET_{flag.upper()}"
        named = {
            f"--{flag.replace('_', '-')}": given[flag] or None,
            variable: environ.get(variable),
            CONFIG: configured.get(flag),
        }
        said = [(source, value) for source, value in named.items() if value not in (None, "", [], ())]
        if not said:
            continue
        source, value = said[0]
        try:
            values[flag] = _typed(flag, value)
        except ValueError as error:
            problems.append(Problem(source, 0, 0, flag if source == CONFIG else "", str(error)))
    if problems:
        raise InputError(*problems)
    return Options(**values)


def _typed(flag: str, value: Any) -> object:
    """Raises ValueError in words that follow the name of what has the value."""
    if flag == "inventory":
        return (value,) if isinstance(value, str) else tuple(str(one) for one in value)
    if flag == "limit":
        return str(value)
    if flag == "forks":
        forks = int(value) if str(value).isdecimal() and not isinstance(value, bool) else 0
        if forks < 1:
            raise ValueError(f"must be a number above 0, not {value!r} (for example 16)")
        return forks
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError(f"must be true or false, not {value!r}")
    return word in _TRUE


def _unknown(key: str) -> Problem:
    close = get_close_matches(key, _DEFAULTS, 1, 0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(_DEFAULTS)}"
    return Problem(CONFIG, 0, 0, key, "unknown key", hint)


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
