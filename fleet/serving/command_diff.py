"""Two command lines: only what differs, an option with its values at a time. Pure."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

DELICATE = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API[_-]?KEY|PRIVATE", re.IGNORECASE)
# vLLM's --tokenizer, --max-num-batched-tokens and their like are no secrets.
HARMLESS = re.compile(r"^--?[\w-]*(tokeniz|tokens\b|token-id)", re.IGNORECASE)

Option = tuple[str, ...]


def differing(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What stood where something else stands now, in order; "" where nothing stood or stands. Command lines that have
    less than half in common are told whole.

    Values of options whose names promise a secret are not shown.
    """
    before, after = _options(old), _options(new)
    match = SequenceMatcher(None, before, after, autojunk=False)
    if match.ratio() < 0.5:
        yield _said(before), _said(after)
        return
    for kind, begin, end, start, stop in match.get_opcodes():
        if kind != "equal":
            yield _said(before[begin:end]), _said(after[start:stop])


def _options(words: Sequence[str]) -> list[Option]:
    """Every option with the values behind it; what stands before the first option word by word."""
    made: list[Option] = []
    for word in words:
        if word.startswith("-") or not made or not made[-1][0].startswith("-"):
            made.append((word,))
        else:
            made[-1] = (*made[-1], word)
    return made


def _said(options: Sequence[Option]) -> str:
    return " ".join(" ".join(_hidden(one)) for one in options)


def _hidden(option: Option) -> Option:
    name, equals, value = option[0].partition("=")
    if not name.startswith("-") or not DELICATE.search(name) or HARMLESS.search(name):
        return option
    return (f"{name}=***" if equals and value else name, *("***" for _ in option[1:]))
