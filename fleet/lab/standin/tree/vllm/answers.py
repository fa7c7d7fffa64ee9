"""Words that look like an answer: the same for the same model and prompt at temperature 0."""

import hashlib
import random
from typing import Any

KNOWN = {"The capital of France is": " Paris. It lies on the Seine and is the largest city of the country."}
WORDS = (
    "the", "a", "city", "river", "of", "and", "north", "old", "bridge", "stands", "near", "water", "with", "light",
    "many", "people", "walk", "there", "every", "morning", "where", "trees", "grow", "slowly", "under", "open", "sky",
)  # fmt: skip


def seed(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def tokens(text: str) -> list[int]:
    """One token a word, 4 to 255."""
    return [4 + seed(word) % 252 for word in text.split()]


def answer(model: str, prompt: str, temperature: float, *, garbage: bool, wrong: bool = False) -> list[str]:
    """The pieces of the answer, one a token."""
    if garbage:
        return ["!"] * 64
    if wrong:
        model += " with other weights"
    known = None if wrong else KNOWN.get(prompt.strip())
    if known:
        return [f" {word}" for word in known.split()]
    chance = random.Random(seed(model, prompt)) if temperature == 0 else random.Random()  # noqa: S311 - no secret
    return [f" {chance.choice(WORDS)}" for _ in range(chance.randint(24, 48))]


def vector(text: str, size: int = 64) -> list[float]:
    """A unit vector, close for texts that share words."""
    raw = [0.0] * size
    for word in text.split() or [""]:
        chance = random.Random(seed(word))  # noqa: S311 - no secret
        raw = [value + chance.uniform(-1, 1) for value in raw]
    length = sum(value * value for value in raw) ** 0.5
    return [value / length for value in raw]


def score(one: str, two: str) -> float:
    """From 0 to 1."""
    return (1 + sum(a * b for a, b in zip(vector(one), vector(two), strict=True))) / 2


def chat_prompt(messages: list[dict[str, Any]]) -> str:
    """A chat template of the simplest kind."""
    return "\n".join(f"{message.get('role', 'user')}: {_text(message.get('content'))}" for message in messages)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
