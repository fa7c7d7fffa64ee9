"""Is an answer any good: never garbage, and right where the right answer is known. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.inventory.settings import Expect, Known

SHOWN = 60  # characters of an answer in a message
REPEATS = 8  # a legitimate short answer may say something twice; a broken sampler never stops


@dataclass(frozen=True)
class Wrong:
    """One known answer that was not given."""

    prompt: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"to {short(self.prompt)!r} expected {self.expected}, got {short(self.got)!r}"


def garbage(text: str, pieces: Sequence[str], finish: str) -> str:
    """What makes an answer worthless, in a few words; empty when nothing does. `finish` is the finish_reason."""
    said = text.strip()
    if not said:
        return "an empty answer"
    if set(said) == {"!"} and len(said) >= REPEATS:
        # Token 0 of most vocabularies: what remains when every logit is NaN.
        return f"nothing but exclamation marks ({said[:16]}): token 0 over and over, as from logits that are NaN"
    if not said.replace("\ufffd", "").strip():
        return "bytes that are no text: nothing but replacement characters"
    if len(said) >= REPEATS and len(set(said)) == 1:
        return f"the character {said[0]!r} over and over"
    words = [piece.strip() for piece in pieces if piece.strip()]
    again = re.fullmatch(r"(.{1,24}?)\1{7,}", " ".join(said.split()) + " ", re.DOTALL)
    if again or (len(words) >= REPEATS and len(set(words)) == 1):
        return f"{(again[1] if again else words[0]).strip()!r} over and over"
    if not finish:
        return f"no finish_reason: the answer stopped after {short(said)!r} without saying why"
    return ""


def right(known: Known, answer: str) -> bool:
    """Does the answer hold what was expected of it?"""
    expect, flags = known.expect, re.NOFLAG if known.case else re.IGNORECASE
    if expect.regex:
        return re.search(expect.regex, answer, flags | re.DOTALL) is not None
    if expect.contains:
        return re.search(re.escape(expect.contains), answer, flags) is not None
    said = answer.strip()
    return any(_begins(text.strip(), said, flags) for text in expect.begins)


def _begins(text: str, said: str, flags: re.RegexFlag) -> bool:
    """Up to the end of a word: 4 is not 42, Par is not Paris."""
    end = r"(?!\w)" if text[-1:].isalnum() else ""
    return re.match(re.escape(text) + end, said, flags) is not None


def mistakes(known: Sequence[Known], answers: Mapping[str, str]) -> tuple[Wrong, ...]:
    """The known answers that were not given; `answers` are by prompt."""
    return tuple(
        Wrong(one.prompt, describe(one.expect), answers.get(one.prompt, ""))
        for one in known
        if not right(one, answers.get(one.prompt, ""))
    )


def needed(rule: str, count: int) -> int:
    """How many of `count` must be right by `all`, `N` or `P%`. A share is rounded up."""
    if rule == "all":
        return count
    if rule.endswith("%"):
        return -(-int(rule[:-1]) * count // 100)
    return min(int(rule), count)


def describe(expect: Expect) -> str:
    if expect.regex:
        return f"/{short(expect.regex)}/"
    if expect.contains:
        return f"something with {short(expect.contains)!r}"
    return " or ".join(repr(short(text)) for text in expect.begins)


def short(text: str) -> str:
    """One line of few characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
