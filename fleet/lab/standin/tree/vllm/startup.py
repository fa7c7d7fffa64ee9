"""The start as its log tells it, phase by phase, with the failures and hangs that were asked for."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NoReturn

from . import __version__, log
from .arguments import named, release
from .log import CORE, raw, say
from .model import Model
from .settings import Settings

PHASES = ("engine", "weights", "compile", "memory", "graphs", "server")
FOREVER = 86400.0


def failures() -> dict[str, dict[str, Any]]:
    """By id: `lines`, and `end`: `engine` (an exception in the engine), `abort` (exit 134), `hang` or `goon`."""
    found: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath("failures.json").read_text())
    return found


def check(settings: Settings) -> None:
    """Raises ValueError for a failure or a phase that does not exist."""
    if settings.fail and settings.fail not in failures():
        raise ValueError(f"STANDIN_FAIL={settings.fail}: there are {', '.join(sorted(failures()))}")
    if settings.hang and settings.hang not in PHASES:
        raise ValueError(f"STANDIN_HANG={settings.hang}: there are {', '.join(PHASES)}")


def banner(arguments: argparse.Namespace) -> None:
    """The first lines; an old release shows the API key in them."""
    given = named(arguments)
    if not release()["logs_api_key"]:
        given.pop("api_key", None)
    say(release()["lines"]["version"], f"vLLM API server version {__version__}")
    say(release()["lines"]["arguments"], f"non-default args: {given}")


class Start:
    """One start. `pause` takes seconds."""

    def __init__(
        self, model: Model, settings: Settings, *, eager: bool, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.model, self.settings, self.eager, self.pause = model, settings, eager, pause

    def run(self) -> None:
        """All phases before the server's own."""
        for phase in PHASES[:-1]:
            getattr(self, f"_{phase}")()
            if phase == "weights" and self.settings.fail:
                fail(self.settings.fail, self.pause)
            self.reach(phase)

    def reach(self, phase: str) -> None:
        """A phase takes its share of the time, or all there is."""
        if phase == self.settings.hang:
            self.pause(FOREVER)
        self.pause(self.settings.start_seconds / len(PHASES))

    def _engine(self) -> None:
        say("model.py:547", f"Resolved architecture: {self.model.architecture}")
        say("model.py:1510", f"Using max model len {self.model.longest}")
        say("scheduler.py:205", "Chunked prefill is enabled with max_num_batched_tokens=8192.")
        words = (
            f"Initializing a V1 LLM engine (v{__version__}) with config: model='{self.model.tag}', dtype=torch.bfloat16"
        )
        say("core.py:77", words, who=CORE)

    def _weights(self) -> None:
        say("gpu_model_runner.py:2602", f"Starting to load model {self.model.tag}...", who=CORE)
        raw("Loading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]")
        self.pause(self.settings.start_seconds / len(PHASES) / 2)
        raw("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00,  3.01it/s]")
        if self.settings.hang == "weights":
            return
        raw("Loading safetensors checkpoint shards: 100% Completed | 2/2 [00:00<00:00,  3.40it/s]")
        say("default_loader.py:267", "Loading weights took 0.25 seconds", who=CORE)
        taken = self.model.size / 2**30
        say("gpu_model_runner.py:2653", f"Model loading took {taken:.4f} GiB and 0.500000 seconds", who=CORE)

    def _compile(self) -> None:
        if not self.eager:
            say("backends.py:559", "Dynamo bytecode transform time: 0.20 s", who=CORE)
            say("monitor.py:34", "torch.compile takes 0.40 s in total", who=CORE)

    def _memory(self) -> None:
        say("gpu_worker.py:298", "Available KV cache memory: 150.25 GiB", who=CORE)
        say("kv_cache_utils.py:1087", "GPU KV cache size: 1,230,848 tokens", who=CORE)
        many = 1230848 / self.model.longest
        words = f"Maximum concurrency for {self.model.longest:,} tokens per request: {many:.2f}x"
        say("kv_cache_utils.py:1091", words, who=CORE)

    def _graphs(self) -> None:
        if not self.eager:
            raw(
                "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|##########| 67/67 [00:00<00:00, 400it/s]"
            )
            say("gpu_model_runner.py:3480", "Graph capturing finished in 1 secs, took 0.59 GiB", who=CORE)
        seconds = self.settings.start_seconds
        say("core.py:210", f"init engine (profile, create kv cache, warmup model) took {seconds:.2f} seconds", who=CORE)


def fail(identity: str, pause: Callable[[float], None] = time.sleep) -> None:
    """Print a known failure and end as vLLM ends; returns after those that it survives."""
    known = failures()
    lines, end = known[identity]["lines"], known[identity]["end"]
    if end == "engine":
        engine_died(lines)
    for line in lines:
        raw(line)
    if end == "abort":
        raw("Fatal Python error: Aborted")
        sys.stderr.flush()
        os._exit(134)  # 128 + SIGABRT; the first process of a container cannot die of a signal it sends itself
    if end == "exit":
        sys.exit(1)
    if end == "hang":
        pause(FOREVER)


def engine_died(lines: list[str]) -> NoReturn:
    """The engine's own traceback, then the umbrella of the process that waited for it."""
    say("core.py:708", "EngineCore failed to start.", who=CORE, level="ERROR")
    say("core.py:708", "Traceback (most recent call last):", who=CORE, level="ERROR")
    for line in lines:
        say("core.py:708", line, who=CORE, level="ERROR")
    api_died("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")


def api_died(line: str) -> NoReturn:
    """A traceback of the API server's own."""
    for words in ("Traceback (most recent call last):", '  File "/usr/local/bin/vllm", line 8, in <module>', line):
        raw(f"({log.API} pid={os.getpid()}) {words}")
    sys.exit(1)
