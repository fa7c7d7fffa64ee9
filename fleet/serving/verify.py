"""Proof that a replica serves: /health, /v1/models, and an answer to a prompt by the route of its task.

Talks HTTP to (address, port), which is one end of a tunnel through the host's SSH connection.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from fleet.errors import FleetError
from fleet.inventory.settings import EMPTY, Known
from fleet.serving.api import Api, Streamed, completion, said
from fleet.serving.compare import Kin
from fleet.serving.known import garbage, mistakes, needed, short
from fleet.serving.load import Speed, measure

PROMPT = "The capital of France is"
SECOND = "Paris is the capital and largest city of France."
GARBLED = "the weights do not fit the kernels: try another dtype, or VLLM_ROCM_USE_AITER=0"


@dataclass(frozen=True)
class Question:
    """What to ask. `task`: generate, embed, score, classify. `timeout` in seconds for one answer.

    `pass_rule` says how many of `known` must be right: all, N or P%.
    """

    served_name: str
    task: str = "generate"
    prompts: tuple[str, ...] = ()
    max_tokens: int = 16
    timeout: float = 120.0
    api_key: str = ""
    known: tuple[Known, ...] = ()
    pass_rule: str = "all"  # noqa: S105  a rule, no password


@dataclass(frozen=True)
class Proof:
    """A good answer. `tokens_per_s` counts from the question to the last token, so it holds the time to the first one.

    Numbers are 0 where the task has no tokens to stream. `answers` are by prompt. `at` is when, by the controller's
    monotonic clock; `kin` what the replica was like then, and `speed` what a load measured, where anybody looked.
    """

    model: str
    task: str
    answer: str
    tokens: int = 0
    tokens_per_s: float = 0.0
    first_token_s: float = 0.0
    note: str = ""
    answers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    at: float = 0.0
    kin: Kin | None = None
    speed: Speed | None = None

    def to_json(self) -> dict[str, object]:
        names = ("model", "task", "answer", "tokens", "tokens_per_s", "first_token_s", "note")
        plain = {name: getattr(self, name) for name in names}
        return plain | {"answers": dict(self.answers), "speed": vars(self.speed) if self.speed else None}


def healthy(address: str, port: int, *, timeout: float = 5.0) -> bool:
    """Did /health say 200? Anything else, a refused connection too, is no."""
    try:
        with Api(address, port, timeout, "") as api:
            return api.status("/health") == 200
    except FleetError:
        return False


def verify(address: str, port: int, question: Question, *, clock: Callable[[], float] = time.monotonic) -> Proof:
    """Raises FleetError saying which of the three did not hold and what came instead."""
    with Api(address, port, question.timeout, question.api_key) as api:
        status = api.status("/health")
        if status != 200:
            raise FleetError(f"/health answers {status}, not 200", hint="the engine behind the server is not well")
        _model(api, question)
        ask = ASK[question.task]
        own = question.prompts or (() if question.known else (PROMPT,))
        proofs = {prompt: ask(api, question, prompt, clock) for prompt in own}
        for one in question.known:
            proofs[one.prompt] = _generate(api, question, one.prompt, clock, one.max_tokens)
    answers = {prompt: proof.answer for prompt, proof in proofs.items()}
    slowest = min(proofs.values(), key=lambda proof: (proof.tokens_per_s, -proof.first_token_s))
    return replace(slowest, note=_right(question, answers), answers=MappingProxyType(answers))


def _right(question: Question, answers: Mapping[str, str]) -> str:
    """What was wrong and is let pass. Raises FleetError where the rule is not met."""
    wrong = mistakes(question.known, answers)
    if not wrong:
        return ""
    count, rule = len(question.known), question.pass_rule
    told = "; ".join(map(str, wrong[:3])) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if count - len(wrong) < needed(rule, count):
        asked = "" if rule == "all" else f" (verify.pass: {rule})"
        raise FleetError(
            f"{len(wrong)} of {count} known answers {'is' if len(wrong) == 1 else 'are'} wrong{asked}: {told}",
            hint="the model, its weights or the kernels are not what the inventory expects; or mend verify.known",
        )
    return f"let pass by verify.pass {rule}: {told}"


def load(
    address: str,
    port: int,
    question: Question,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    stopped: Callable[[], bool] = lambda: False,
) -> Speed | None:
    """The fixed load for so many seconds; None for tasks without tokens. Failed requests are counted, not raised."""
    if question.task != "generate":
        return None

    def ask(body: dict[str, Any]) -> Streamed:
        with Api(address, port, question.timeout, question.api_key) as api:
            got = completion(api, body, clock)
        if not got.text.strip():  # beyond its natural end a sound model may say one thing over and over
            raise FleetError("/v1/completions gave an empty answer under load")
        return got

    return measure(question.served_name, ask, seconds, clock=clock, stopped=stopped)


def _model(api: Api, question: Question) -> None:
    listed = api.get("/v1/models").get("data")
    names = [entry.get("id") for entry in listed or () if isinstance(entry, dict)]
    if question.served_name not in names:
        raise FleetError(f"/v1/models lists {', '.join(map(str, names)) or 'nothing'}, not {question.served_name}")


def _generate(api: Api, question: Question, prompt: str, clock: Callable[[], float], max_tokens: int = 0) -> Proof:
    body = {
        "model": question.served_name,
        "prompt": prompt,
        "max_tokens": max_tokens or question.max_tokens,
        "temperature": 0,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    got = completion(api, body, clock)
    if bad := garbage(got.text, got.pieces, got.finish):
        message = f"/v1/completions answers {short(prompt)!r} with garbage: {bad}"
        raise FleetError(message, hint="" if bad.startswith(("an empty", "no finish")) else GARBLED)
    return Proof(question.served_name, "generate", got.text, got.tokens, got.rate, got.first_s)


def _embed(api: Api, question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    answer = api.post("/v1/embeddings", {"model": question.served_name, "input": prompt})
    vector = _first(answer, "/v1/embeddings").get("embedding")
    numbers = _numbers(vector, "/v1/embeddings")
    if not any(numbers):
        raise FleetError("/v1/embeddings gave a vector of zeros")
    return Proof(question.served_name, "embed", f"{len(numbers)} dimensions")


def _score(api: Api, question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    answer = api.post("/score", {"model": question.served_name, "text_1": prompt, "text_2": SECOND})
    value = _first(answer, "/score").get("score")
    return Proof(question.served_name, "score", str(_numbers([value], "/score")[0]))


def _classify(api: Api, question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    entry = _first(api.post("/classify", {"model": question.served_name, "input": prompt}), "/classify")
    _numbers(entry.get("probs"), "/classify")
    return Proof(question.served_name, "classify", str(entry.get("label") or "no label"))


def _first(answer: dict[str, Any], route: str) -> dict[str, Any]:
    data = answer.get("data")
    if not isinstance(data, list) or not data or not isinstance(data[0], dict):
        raise FleetError(f"{route} gave no data: {said(answer)}")
    return data[0]


def _numbers(values: object, route: str) -> list[float]:
    if not isinstance(values, list) or not values:
        raise FleetError(f"{route} gave no numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise FleetError(f"{route} gave something that is no finite number")
    return [float(value) for value in values]


ASK: Mapping[str, Callable[[Api, Question, str, Callable[[], float]], Proof]] = MappingProxyType(
    {"generate": _generate, "embed": _embed, "score": _score, "classify": _classify}
)
