"""The shapes of OpenAI's answers as vLLM fills them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import answers


@dataclass(frozen=True)
class Form:
    """The shape of one answer."""

    chat: bool
    identity: str
    model: str
    reason: str

    def whole(self, text: str, usage: dict[str, int]) -> dict[str, Any]:
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": self.reason, "stop_reason": None}
        return self._body([choice], "chat.completion" if self.chat else "text_completion") | {"usage": usage}

    def events(self, pieces: list[str], usage: dict[str, int] | None) -> Iterator[dict[str, Any]]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            said: dict[str, Any] = {"delta": {"content": piece}} if self.chat else {"text": piece}
            yield self._body([{"index": 0, **said, "finish_reason": self.reason if last else None}], kind)
        if usage:
            yield self._body([], kind) | {"usage": usage}

    def _body(self, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {
            "id": self.identity,
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "choices": choices,
        }


def row(task: str, text: str) -> dict[str, Any]:
    """One answer of a pooling model."""
    if task == "embed":
        return {"object": "embedding", "embedding": answers.vector(text)}
    good = answers.score(text, "good")
    return {"label": "LABEL_1" if good >= 0.5 else "LABEL_0", "probs": [1 - good, good], "num_classes": 2}
