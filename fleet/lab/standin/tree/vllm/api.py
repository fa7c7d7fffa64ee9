"""vLLM's HTTP routes on the standard library's server."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import __version__, answers
from .forms import Form, row
from .log import uvicorn
from .settings import Settings

GUARDED = ("/v1", "/v2", "/inference", "/cohere")  # with a key; everything else stays open, as in vLLM
TASKS = {"/v1/embeddings": "embed", "/score": "score", "/v1/score": "score", "/classify": "classify"}
ROUTES = {
    "/health": ("GET",), "/ping": ("GET", "POST"), "/version": ("GET",), "/load": ("GET",), "/metrics": ("GET",),
    "/v1/models": ("GET",), "/v1/completions": ("POST",), "/v1/chat/completions": ("POST",), "/tokenize": ("POST",),
    **dict.fromkeys(TASKS, ("POST",)),
}  # fmt: skip
NO_CLIENT = (BrokenPipeError, ConnectionResetError)


class RequestError(Exception):
    """An answer other than 200, with vLLM's error body."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": status}}


@dataclass
class State:
    """What the handlers share."""

    names: tuple[str, ...]
    root: str
    longest: int
    keys: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    created: int = field(default_factory=lambda: int(time.time()))
    running: int = 0
    counters: dict[str, int] = field(default_factory=lambda: {"prompt": 0, "generation": 0, "success": 0})
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, prompt: int, generation: int) -> None:
        with self.lock:
            self.counters["prompt"] += prompt
            self.counters["generation"] += generation
            self.counters["success"] += 1


class Server(http.server.ThreadingHTTPServer):
    """Takes a socket that is bound already: vLLM binds early and listens when it is ready."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], state: State) -> None:
        self.state = state
        super().__init__(address, Handler, bind_and_activate=False)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the name of the class above
        pass  # _head writes the access log as uvicorn does

    @property
    def state(self) -> State:
        return self.server.state

    def _serve(self, method: str) -> None:
        path = self.path.partition("?")[0]
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if not self._allowed(path):
                self._json({"error": "Unauthorized"}, 401)
            elif path not in ROUTES:
                self._json({"detail": "Not Found"}, 404)
            elif method not in ROUTES[path]:
                self._json({"detail": "Method Not Allowed"}, 405)
            elif method == "GET" or path == "/ping":
                self._look(path)
            else:
                self._ask(path, raw)
        except RequestError as refused:
            self._json(refused.body, refused.status)
        except NO_CLIENT:
            self.close_connection = True

    def _allowed(self, path: str) -> bool:
        if not self.state.keys or not path.startswith(GUARDED):
            return True
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key in self.state.keys

    def _look(self, path: str) -> None:
        if path in {"/health", "/ping"}:
            self._send(b"", 200, "application/json")
        elif path == "/version":
            self._json({"version": __version__})
        elif path == "/load":
            self._json({"server_load": self.state.running})
        elif path == "/metrics":
            self._send(metrics(self.state).encode(), 200, "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._json({"object": "list", "data": [self._model(name) for name in self.state.names]})

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self.state.created,
            "owned_by": "vllm",
            "root": self.state.root,
            "parent": None,
            "max_model_len": self.state.longest,
        }

    def _ask(self, path: str, raw: bytes) -> None:
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise RequestError(400, "Bad Request", "[{'type': 'json_invalid', 'msg': 'JSON decode error'}]") from error
        if not isinstance(body, dict):
            raise RequestError(
                400, "Bad Request", "[{'type': 'model_attributes_type', 'msg': 'Input should be an object'}]"
            )
        name = body.get("model", self.state.names[0])
        if name not in self.state.names:
            raise RequestError(404, "NotFoundError", f"The model `{name}` does not exist.")
        task = TASKS.get(path, "generate")
        if path != "/tokenize" and task != self.state.settings.task:
            api = {"generate": "Completions", "embed": "Embeddings", "score": "Score", "classify": "Classification"}
            raise RequestError(400, "BadRequestError", f"The model does not support {api[task]} API")
        with self.state.lock:
            self.state.running += 1
        try:
            self._answer(path, task, name, body)
        finally:
            with self.state.lock:
                self.state.running -= 1

    def _answer(self, path: str, task: str, name: str, body: dict[str, Any]) -> None:
        if path == "/tokenize":
            found = answers.tokens(str(body.get("prompt") or answers.chat_prompt(body.get("messages") or [])))
            self._json({"count": len(found), "max_model_len": self.state.longest, "tokens": found, "token_strs": None})
        elif task == "generate":
            self._generate(path, name, body)
        else:
            self._pool(task, name, body)

    def _pool(self, task: str, name: str, body: dict[str, Any]) -> None:
        if task == "score":
            texts = body.get("text_2", "")
            texts = texts if isinstance(texts, list) else [texts]
            rows = [{"object": "score", "score": answers.score(str(body.get("text_1", "")), str(two))} for two in texts]
        else:
            texts = body.get("input", "")
            texts = texts if isinstance(texts, list) else [texts]
            rows = [row(task, str(text)) for text in texts]
        count = sum(len(str(text).split()) for text in texts)
        self.state.count(count, 0)
        data = [{"index": number, **one} for number, one in enumerate(rows)]
        usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
        self._json({"id": f"{task}-{time.time_ns()}", "object": "list", "model": name, "data": data, "usage": usage})

    def _generate(self, path: str, name: str, body: dict[str, Any]) -> None:
        chat = path.endswith("/chat/completions")
        prompt = answers.chat_prompt(body.get("messages") or []) if chat else body.get("prompt", "")
        prompt = str(prompt[0] if isinstance(prompt, list) and prompt else prompt)
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        count = max(1, len(prompt.split()))
        limit = int(asked) if asked is not None else self.state.longest - count if chat else 16
        if limit < 1 and asked is not None:
            raise RequestError(400, "BadRequestError", f"max_tokens must be at least 1, got {limit}.")
        if count + limit > self.state.longest or limit < 1:
            raise RequestError(
                400,
                "BadRequestError",
                f"This model's maximum context length is {self.state.longest} tokens. However, you requested "
                f"{count + max(limit, 0)} tokens ({count} in the messages, {max(limit, 0)} in the completion).",
            )
        temperature = float(body.get("temperature", 1.0))
        told = self.state.settings
        whole = answers.answer(name, prompt, temperature, garbage=told.garbage, wrong=told.wrong_answers)
        pieces = whole[:limit]
        reason = "length" if len(pieces) < len(whole) else "stop"
        usage = {"prompt_tokens": count, "total_tokens": count + len(pieces), "completion_tokens": len(pieces)}
        form = Form(chat, f"{'chatcmpl' if chat else 'cmpl'}-{time.time_ns():x}", name, reason)
        if body.get("stream"):
            wanted = bool((body.get("stream_options") or {}).get("include_usage"))
            self._stream(form.events(pieces, usage if wanted else None))
        else:
            time.sleep(self.state.settings.slow_tokens * len(pieces))
            self._json(form.whole("".join(pieces), usage))
        self.state.count(count, len(pieces))

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self._head(200, "text/event-stream; charset=utf-8", {"Transfer-Encoding": "chunked"})
        for event in events:
            self._chunk(f"data: {json.dumps(event)}\n\n")
            time.sleep(self.state.settings.slow_tokens)
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _json(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value, separators=(",", ":")).encode(), status, "application/json")

    def _send(self, body: bytes, status: int, kind: str) -> None:
        self._head(status, kind, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, status: int, kind: str, more: dict[str, str]) -> None:
        where = f"{self.client_address[0]}:{self.client_address[1]}"
        uvicorn(f'{where} - "{self.command} {self.path} HTTP/1.1" {status} {http.HTTPStatus(status).phrase}')
        self.send_response(status)
        for name, value in {"Content-Type": kind, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        return "uvicorn"


def metrics(state: State) -> str:
    """Prometheus text with vLLM's names."""
    label = f'{{engine="0",model_name="{state.names[0]}"}}'
    found = (
        ("vllm:num_requests_running", "gauge", state.running),
        ("vllm:num_requests_waiting", "gauge", 0),
        ("vllm:kv_cache_usage_perc", "gauge", 0),
        ("vllm:prompt_tokens_total", "counter", state.counters["prompt"]),
        ("vllm:generation_tokens_total", "counter", state.counters["generation"]),
        ("vllm:request_success_total", "counter", state.counters["success"]),
    )
    return "".join(
        f"# HELP {name} {kind} of the stand-in\n# TYPE {name} {kind}\n{name}{label} {float(value)}\n"
        for name, kind, value in found
    )
