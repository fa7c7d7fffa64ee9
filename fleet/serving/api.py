"""A few HTTP requests to one vLLM server; every failure of network or form is a FleetError that names the route."""

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from fleet.errors import FleetError


@dataclass(frozen=True)
class Streamed:
    """A streamed completion. `first_s` and `last_s` are seconds since the question; `finish` is its finish_reason."""

    text: str
    pieces: tuple[str, ...]
    tokens: int
    first_s: float
    last_s: float
    finish: str

    @property
    def rate(self) -> float:
        """Tokens/s from the question to the last token, so the time to the first one is in it."""
        return self.tokens / self.last_s if self.last_s > 0 else 0.0


def completion(api: "Api", body: dict[str, Any], clock: Callable[[], float]) -> Streamed:
    """Ask /v1/completions for a stream and read it to its end. Raises FleetError."""
    begun, first, last = clock(), 0.0, 0.0
    pieces: list[str] = []
    tokens, finish = 0, ""
    for event in api.events("/v1/completions", body):
        if "error" in event:
            raise FleetError(f"/v1/completions failed: {said(event)}")
        for choice in event.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            if piece := choice.get("text"):
                last = clock()
                first = first or last
                pieces.append(piece)
        tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
    return Streamed(
        "".join(pieces),
        tuple(pieces),
        tokens or len(pieces),
        first - begun if pieces else 0.0,
        last - begun if pieces else 0.0,
        str(finish),
    )


def said(answer: object) -> str:
    return json.dumps(answer)[:300]


class Api:
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

    def text(self, route: str) -> str:
        """A page that is no JSON."""
        response = self._ask("GET", route, None)
        text = self._read(response, route)
        if response.status != 200:
            raise self._refused(route, response.status, text)
        return text

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
