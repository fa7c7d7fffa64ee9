"""The stand-in, checked out and started as a process on loopback with devices that are plain files."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.vllm_repo import HISTORY, files_of

Run = Callable[..., "Standin"]


@dataclass
class Standin:
    """One `vllm serve`."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ready(self) -> "Standin":
        self.until("Application startup complete.")
        return self

    def until(self, words: str) -> None:
        deadline = time.monotonic() + 20
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def ended(self) -> int:
        return self.process.wait(20)

    def ask(self, path: str, body: object = None, key: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, path: str, body: object = None) -> Any:
        return json.loads(self.ask(path, body)[1])


def check_out(target: Path, release: str = "v0.11.0") -> Path:
    """The files of one release, below `target`."""
    for path, content in files_of(next(one for one in HISTORY if one.name == release)).items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return target


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "tiny"
    directory.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 32, "max_position_embeddings": 4096}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    directory = tmp_path / "dev"
    (directory / "dri").mkdir(parents=True)
    for name in ("kfd", "dri/renderD128", "dri/renderD136", "dri/renderD144", "dri/renderD152"):
        (directory / name).touch()
    return directory


@pytest.fixture
def serve(tmp_path: Path, model: Path, dev: Path) -> Iterator[Run]:
    """Start one: `serve("--flag", …, release="v0.11.0", tag="/a/model", STANDIN_FAIL="…")`."""
    begun: list[Standin] = []

    def start(*flags: str, release: str = "v0.11.0", tag: str = "", **environment: str) -> Standin:
        source = check_out(tmp_path / release, release)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path / f"log{len(begun)}"
        address = ("--host", "127.0.0.1", "--port", str(port))
        with log.open("w") as out:
            process = subprocess.Popen(
                (sys.executable, "-m", "vllm", "serve", tag or str(model), *address, *flags),
                stdout=out,
                stderr=out,
                text=True,
                cwd=source,
                env={"PATH": os.environ["PATH"], "STANDIN_START_SECONDS": "0.05", "STANDIN_DEV": str(dev)}
                | environment,
            )
        begun.append(Standin(process, port, log))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGKILL)
        one.process.wait(10)
