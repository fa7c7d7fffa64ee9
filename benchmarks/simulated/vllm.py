"""A vLLM's HTTP API, as far as a verification asks: /health, /v1/models, and a completion token by token."""

import json
import time
from collections.abc import Iterator

from benchmarks.simulated.engine import Answer

MODEL = "tiny-chat"
WORDS = (" Paris", ",", " which", " lies", " on", " the", " Seine", ".")


class VllmAnswer(Answer):
    def route(self) -> None:
        machine = self.machine
        machine.count("vllm")
        self.read()
        time.sleep(machine.delays.trip)
        match self.path:
            case "/health":
                self.reply(b"")
            case "/v1/models":
                self.reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            case "/v1/completions":
                self.stream(self._tokens())
            case path:
                self.reply({"error": machine.refuse(path)[1]}, 404)

    def _tokens(self) -> Iterator[bytes]:
        for number, word in enumerate(WORDS, start=1):
            time.sleep(self.machine.delays.token)
            choice = {"index": 0, "text": word, "finish_reason": "length" if number == len(WORDS) else None}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
        usage = {"choices": [], "usage": {"completion_tokens": len(WORDS)}}
        yield f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode()
