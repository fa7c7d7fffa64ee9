"""Verification against a small real HTTP server, good and sick."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.inventory.settings import Expect, Known
from fleet.serving.verify import Question, healthy, load, verify

Reply = tuple[int, bytes]
Routes = dict[str, Reply]
QUESTION = Question("tiny", timeout=5)


def answer(value: object, status: int = 200) -> Reply:
    return status, json.dumps(value).encode()


def stream(*events: object, done: bool = True) -> Reply:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + (["data: [DONE]\n\n"] if done else [])
    return 200, "".join(lines).encode()


def text(piece: str) -> dict[str, Any]:
    return {"choices": [{"text": piece}]}


def last(piece: str, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"text": piece, "finish_reason": reason}]}


USAGE = {"choices": [], "usage": {"completion_tokens": 4}}
GOOD: Routes = {
    "/health": (200, b""),
    "/v1/models": answer({"data": [{"id": "tiny"}]}),
    "/v1/completions": stream(text(" Par"), last("is."), USAGE),
    "/v1/embeddings": answer({"data": [{"embedding": [0.1, -0.2, 0.3]}]}),
    "/score": answer({"data": [{"score": 0.75}]}),
    "/classify": answer({"data": [{"label": "good", "probs": [0.1, 0.9]}]}),
}


@contextmanager
def server(routes: Routes, *, key: str = "", seen: list[Any] | None = None) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if seen is not None:
                seen.append(body)
            self.reply()

        def reply(self) -> None:
            status, body = routes.get(self.path, (404, b"no such route"))
            if key and self.path.startswith("/v1") and self.headers.get("Authorization") != f"Bearer {key}":
                status, body = 401, b'{"error":"Unauthorized"}'
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield http_server.server_port
        finally:
            http_server.shutdown()
            thread.join()


def ticking() -> Callable[[], float]:
    now = iter(range(100))
    return lambda: float(next(now))


def test_a_good_completion_is_measured() -> None:
    seen: list[Any] = []
    with server(GOOD, seen=seen) as port:
        proof = verify("127.0.0.1", port, QUESTION, clock=ticking())
    assert (proof.answer, proof.tokens, proof.first_token_s, proof.tokens_per_s) == (" Paris.", 4, 1.0, 2.0)
    assert (seen[0]["temperature"], seen[0]["max_tokens"], seen[0]["model"]) == (0, 16, "tiny")


def test_the_fleets_own_prompts_are_asked_each() -> None:
    seen: list[Any] = []
    with server(GOOD, seen=seen) as port:
        verify("127.0.0.1", port, Question("tiny", prompts=("one", "two"), max_tokens=3))
    assert [(body["prompt"], body["max_tokens"]) for body in seen] == [("one", 3), ("two", 3)]


@pytest.mark.parametrize(("task", "said"), [("embed", "3 dimensions"), ("score", "0.75"), ("classify", "good")])
def test_other_tasks_are_verified_by_their_own_route(task: str, said: str) -> None:
    with server(GOOD) as port:
        assert verify("127.0.0.1", port, Question("tiny", task=task)).answer == said


def test_a_key_is_sent_and_its_lack_explained() -> None:
    with server(GOOD, key="k") as port:
        assert verify("127.0.0.1", port, Question("tiny", api_key="k")).answer
        with pytest.raises(FleetError, match=r"/v1/models answers 401.*put VLLM_API_KEY under its secrets"):
            verify("127.0.0.1", port, QUESTION)


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({"/health": (503, b"")}, "/health answers 503, not 200"),
        ({"/v1/models": answer({"data": [{"id": "other"}]})}, "/v1/models lists other, not tiny"),
        ({"/v1/models": answer({"data": []})}, "/v1/models lists nothing, not tiny"),
        ({"/v1/models": (200, b"<html>")}, "/v1/models answers something that is not JSON"),
        ({"/v1/completions": stream(USAGE)}, "with garbage: an empty answer"),
        ({"/v1/completions": stream(text(" "), text("\n"))}, "with garbage: an empty answer"),
        (
            {"/v1/completions": stream(*[text("!")] * 16)},
            r"with garbage: nothing but exclamation marks \(!!!!!!!!!!!!!!!!\)",
        ),
        ({"/v1/completions": stream(text("aaaaaaaa"), last("a"))}, "the character 'a' over and over"),
        ({"/v1/completions": stream(*[text(" the")] * 8, last(""))}, "'the' over and over"),
        ({"/v1/completions": stream(text("\ufffd\ufffd"), last(""))}, "bytes that are no text"),
        ({"/v1/completions": stream(text(" Paris"), USAGE)}, "no finish_reason: the answer stopped after 'Paris'"),
        ({"/v1/completions": stream({"error": {"message": "boom"}})}, "boom"),
        ({"/v1/completions": stream(text("a"), done=False)}, "ended its stream without"),
        ({"/v1/completions": (200, b"data: {broken\n\n")}, "broke off in its answer"),
        ({"/v1/completions": answer({"error": "x"}, 500)}, "/v1/completions answers 500"),
    ],
)
def test_a_sick_server_is_never_taken_for_a_good_one(routes: Routes, message: str) -> None:
    with server({**GOOD, **routes}) as port, pytest.raises(FleetError, match=message):
        verify("127.0.0.1", port, QUESTION)


@pytest.mark.parametrize(
    ("task", "route", "reply", "message"),
    [
        ("embed", "/v1/embeddings", {"data": [{"embedding": [0, 0]}]}, "vector of zeros"),
        ("embed", "/v1/embeddings", {"data": []}, "gave no data"),
        ("score", "/score", {"data": [{"score": float("nan")}]}, "no finite number"),
        ("classify", "/classify", {"data": [{"label": "x"}]}, "gave no numbers"),
    ],
)
def test_garbage_of_other_tasks_fails(task: str, route: str, reply: object, message: str) -> None:
    with server({**GOOD, route: answer(reply)}) as port, pytest.raises(FleetError, match=message):
        verify("127.0.0.1", port, Question("tiny", task=task))


PARIS = Known("The capital of France is", Expect(begins=("paris",)))
SUM = Known("2 + 2 =", Expect(begins=("4", "four")), max_tokens=2)


def test_known_answers_are_asked_with_their_own_length_and_seed() -> None:
    seen: list[Any] = []
    with server(GOOD, seen=seen) as port:
        proof = verify("127.0.0.1", port, Question("tiny", known=(PARIS, SUM), pass_rule="1"))
    assert [(body["prompt"], body["max_tokens"], body["seed"]) for body in seen] == [
        ("The capital of France is", 16, 0),
        ("2 + 2 =", 2, 0),
    ]
    assert proof.note == "let pass by verify.pass 1: to '2 + 2 =' expected '4' or 'four', got 'Paris.'"
    assert dict(proof.answers) == {"The capital of France is": " Paris.", "2 + 2 =": " Paris."}


def test_a_wrong_known_answer_fails_with_prompt_expected_and_got() -> None:
    message = "1 of 2 known answers is wrong: to '2 \\+ 2 =' expected '4' or 'four', got 'Paris.'"
    with server(GOOD) as port, pytest.raises(FleetError, match=message):
        verify("127.0.0.1", port, Question("tiny", known=(PARIS, SUM)))


def test_a_load_counts_requests_and_their_speed() -> None:
    seen: list[Any] = []
    with server(GOOD, seen=seen) as port:
        speed = load("127.0.0.1", port, QUESTION, 0.3)
    assert speed is not None
    assert (speed.requests, speed.errors) == (len(seen), 0)
    assert speed.tokens_per_s_p5 <= speed.tokens_per_s
    assert speed.first_token_s <= speed.first_token_s_p95
    assert len({body["prompt"] for body in seen}) == len(seen), "a prefix cache would answer for the GPU"


def test_a_load_on_a_refusing_server_gives_up_and_counts_errors() -> None:
    with server({**GOOD, "/v1/completions": answer({"error": "x"}, 503)}) as port:
        speed = load("127.0.0.1", port, QUESTION, 60)
    assert speed is not None
    assert (speed.requests, speed.errors, speed.tokens_per_s) == (12, 12, 0.0)
    assert "/v1/completions answers 503" in speed.error


def test_tasks_without_tokens_have_no_load() -> None:
    assert load("127.0.0.1", 1, Question("tiny", task="embed"), 60) is None


def test_health_is_no_while_nobody_listens() -> None:
    with server(GOOD) as port:
        assert healthy("127.0.0.1", port)
    assert not healthy("127.0.0.1", port)
    with pytest.raises(FleetError, match="/health cannot be reached"):
        verify("127.0.0.1", port, QUESTION)
