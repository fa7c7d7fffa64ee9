"""Proof that a replica serves: /health, /v1/models, and an answer to a prompt by the route of its task.

Talks HTTP to (address, port), which is one end of a tunnel through the host's SSH connection.
"""

import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from fleet.errors import FleetError

PROMPT = "The capital of France is"
SECOND = "Paris is the capital and largest city of France."


@dataclass(frozen=True)
class Question:
    """What to ask. `task`: generate, embed, score, classify. `timeout` in seconds for one answer."""

    served_name: str
    task: str = "generate"
    prompts: tuple[str, ...] = ()
    max_tokens: int = 16
    timeout: float = 120.0
    api_key: str = ""


@dataclass(frozen=True)
class Proof:
    """A good answer. `tokens_per_s` counts from the question to the last token, so it holds the time to the first one.

    Numbers are 0 where the task has no tokens to stream.
    """

    model: str
    task: str
    answer: str
    tokens: int = 0
    tokens_per_s: float = 0.0
    first_token_s: float = 0.0
    note: str = ""


def healthy(address: str, port: int, *, timeout: float = 5.0) -> bool:
    """Did /health say 200? Anything else, a refused connection too, is no."""
    try:
        with _Api(address, port, timeout, "") as api:
            return api.status("/health") == 200
    except FleetError:
        return False


def verify(address: str, port: int, question: Question, *, clock: Callable[[], float] = time.monotonic) -> Proof:
    """Raises FleetError saying which of the three did not hold and what came instead."""
    with _Api(address, port, question.timeout, question.api_key) as api:
        status = api.status("/health")
        if status != 200:
            raise FleetError(f"/health answers {status}, not 200", hint="the engine behind the server is not well")
        _model(api, question)
        ask = {"generate": _generate, "embed": _embed, "score": _score, "classify": _classify}[question.task]
        proofs = [ask(api, question, prompt, clock) for prompt in question.prompts or (PROMPT,)]
    return proofs[-1] if len(proofs) == 1 else _slowest(proofs)


def _slowest(proofs: list[Proof]) -> Proof:
    return min(proofs, key=lambda proof: (proof.tokens_per_s, -proof.first_token_s))


def _model(api: "_Api", question: Question) -> None:
    listed = api.get("/v1/models").get("data")
    names = [entry.get("id") for entry in listed or () if isinstance(entry, dict)]
    if question.served_name not in names:
        raise FleetError(f"/v1/models lists {', '.join(map(str, names)) or 'nothing'}, not {question.served_name}")


def _generate(api: "_Api", question: Question, prompt: str, clock: Callable[[], float]) -> Proof:
    body = {
        "model": question.served_name,
        "prompt": prompt,
        "max_tokens": question.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun, first, last = clock(), 0.0, 0.0
    text, chunks, tokens = "", 0, 0
    for event in api.events("/v1/completions", body):
        if "error" in event:
            raise FleetError(f"/v1/completions failed: {_said(event)}")
        for choice in event.get("choices") or ():
            if piece := choice.get("text"):
                last = clock()
                first = first or last
                text, chunks = text + piece, chunks + 1
        tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
    if not text.strip():
        raise FleetError(f"/v1/completions gave an empty answer to {prompt!r}")
    if set(text.strip()) == {"!"} and len(text.strip()) > 7:
        # Token 0 of most vocabularies: what remains when every logit is NaN.
        hint = "the weights do not fit the kernels: try another dtype, or VLLM_ROCM_USE_AITER=0"
        raise FleetError(f"/v1/completions answers {prompt!r} with garbage: {text.strip()[:16]}", hint=hint)
    tokens = tokens or chunks
    rate = tokens / (last - begun) if last > begun else 0.0
    kinds = set(text.strip())
    note = f"the answer is {kinds.pop()!r} over and over" if len(kinds) == 1 and len(text.strip()) > 7 else ""
    return Proof(question.served_name, "generate", text, tokens, rate, first - begun, note)


def _embed(api: "_Api", question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    answer = api.post("/v1/embeddings", {"model": question.served_name, "input": prompt})
    vector = _first(answer, "/v1/embeddings").get("embedding")
    numbers = _numbers(vector, "/v1/embeddings")
    if not any(numbers):
        raise FleetError("/v1/embeddings gave a vector of zeros")
    return Proof(question.served_name, "embed", f"{len(numbers)} dimensions")


def _score(api: "_Api", question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    answer = api.post("/score", {"model": question.served_name, "text_1": prompt, "text_2": SECOND})
    value = _first(answer, "/score").get("score")
    return Proof(question.served_name, "score", str(_numbers([value], "/score")[0]))


def _classify(api: "_Api", question: Question, prompt: str, _clock: Callable[[], float]) -> Proof:
    entry = _first(api.post("/classify", {"model": question.served_name, "input": prompt}), "/classify")
    _numbers(entry.get("probs"), "/classify")
    return Proof(question.served_name, "classify", str(entry.get("label") or "no label"))


def _first(answer: dict[str, Any], route: str) -> dict[str, Any]:
    data = answer.get("data")
    if not isinstance(data, list) or not data or not isinstance(data[0], dict):
        raise FleetError(f"{route} gave no data: {_said(answer)}")
    return data[0]


def _numbers(values: object, route: str) -> list[float]:
    if not isinstance(values, list) or not values:
        raise FleetError(f"{route} gave no numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise FleetError(f"{route} gave something that is no finite number")
    return [float(value) for value in values]


def _said(answer: object) -> str:
    return json.dumps(answer)[:300]


class _Api:
    """A few requests to one server; every failure of network or form is a FleetError that names the route."""

    def __init__(self, address: str, port: int, timeout: float, key: str) -> None:
        self._where = (address, port, timeout)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._open: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._open is not None:
            self._open.close()

    def status(self, route: str) -> int:
        response = self._ask("GET", route, None)
        self._read(response, route)
        return response.status

    def get(self, route: str) -> dict[str, Any]:
        return self._json("GET", route, None)

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", route, body)

    def events(self, route: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Server-sent events up to [DONE]."""
        response = self._ask("POST", route, body)
        if response.status != 200:
            raise self._refused(route, response.status, self._read(response, route))
        try:
            for line in response:
                field, _, value = line.decode("utf-8", "replace").strip().partition(":")
                if field == "data" and value.strip() == "[DONE]":
                    return
                if field == "data":
                    event = json.loads(value)
                    yield event if isinstance(event, dict) else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FleetError(f"{route} broke off in its answer: {_name(error)}") from error
        raise FleetError(f"{route} ended its stream without [DONE]")

    def _json(self, method: str, route: str, body: dict[str, Any] | None) -> dict[str, Any]:
        response = self._ask(method, route, body)
        text = self._read(response, route)
        if response.status != 200:
            raise self._refused(route, response.status, text)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise FleetError(f"{route} answers something that is not JSON: {text[:120]!r}") from error
        return value if isinstance(value, dict) else {}

    def _ask(self, method: str, route: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
        address, port, timeout = self._where
        if self._open is not None:
            self._open.close()
        self._open = http.client.HTTPConnection(address, port, timeout=timeout)
        try:
            self._open.request(method, route, json.dumps(body) if body is not None else None, self._headers)
            return self._open.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise FleetError(f"{route} cannot be reached: {_name(error)}") from error

    def _read(self, response: http.client.HTTPResponse, route: str) -> str:
        try:
            return response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise FleetError(f"{route} broke off in its answer: {_name(error)}") from error

    def _refused(self, route: str, status: int, text: str) -> FleetError:
        hint = "the service wants a key: put VLLM_API_KEY under its secrets" if status == 401 else ""
        return FleetError(f"{route} answers {status}: {text[:300].strip()}", hint=hint)


def _name(error: Exception) -> str:
    return str(error) or type(error).__name__
