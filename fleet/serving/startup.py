"""How far a vLLM start-up has come, read from its log lines, and why it failed. Pure.

Source of the phases: the lines that vLLM 0.6 to 0.11 print in this order, and those of 0.32 on CPU, which was watched in
the lab (docs/lab.md). A line that only says what is switched off, as `disabling torch.compile`, is no phase.
"""

import re
from collections import deque

PHASES: tuple[tuple[str, str], ...] = (
    (
        "starting the engine",
        r"Initializing a V\d(?: LLM)? engine|Initializing an LLM engine|vLLM API server version|non-default args:",
    ),
    (
        "loading weights",
        r"Starting to load model|Loading (?:safetensors|pt|bin) checkpoint shards|Loading model weights",
    ),
    ("weights loaded", r"Loading weights took|Model loading took|Loading model weights took"),
    (
        "compiling kernels",
        (
            r"torch\.compile (?:takes|took)|Compiling a graph|Dynamo bytecode|Warming up model for the compilation|"
            r"saved AOT compiled function|\[aiter\] (?:start|finish) build|Triton.*compil"
        ),
    ),
    (
        "measuring memory",
        r"Available KV cache memory|[CG]PU KV cache size|GiB for KV cache|# (?:GPU|ROCm) blocks|Memory profiling",
    ),
    ("capturing graphs", r"Capturing (?:CUDA|HIP) graph|Graph capturing finished|capturing graphs"),
    ("starting the server", r"Starting vLLM (?:API )?server|Started server process|Waiting for application startup"),
    ("ready", r"Application startup complete|Uvicorn running on"),
)
FATAL = re.compile(
    r"Engine core initialization failed|WorkerProc (?:initialization )?failed|WorkerProc failed to start|"
    r"Free memory on device .{0,80}less than desired|error: unrecognized arguments|error: argument .*invalid choice|"
    r"Engine process failed to start|address already in use|HSA_STATUS_ERROR_OUT_OF_RESOURCES"
)
UMBRELLA = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|WorkerProc failed to start|"
    r"Engine process failed to start|See (?:root cause|stack trace) above|EngineDeadError"
)
PREFIX = re.compile(r"^\s*(?:\([^)]{1,60}\)\s*)*(?:(?:ERROR|CRITICAL|WARNING|INFO|DEBUG)\s+\S+\s+\S+\s+\[[^\]]+\]\s*)?")
EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure)(?::.*)?$")
USAGE = re.compile(r"^\S*vllm\S*(?: serve)?: error: .+$|^\S+\.py: error: .+$")
PERCENT = re.compile(r"(\d{1,3})%")
TAIL = 40  # lines


class Startup:
    """Fed with log lines in order. `marker` changes exactly when there is progress."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.percent = -1
        self.fatal = ""
        self.exception = ""
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._reached = -1
        self._kinds: set[str] = set()

    @property
    def ready(self) -> bool:
        return self.phase == "ready"

    @property
    def marker(self) -> tuple[int, int, int]:
        """Phase, percent, and how many kinds of lines were seen: a line that only repeats itself is no progress."""
        return (self._reached, self.percent, len(self._kinds))

    @property
    def told(self) -> str:
        return f"{self.phase} {self.percent}%" if self.percent >= 0 else self.phase

    def feed(self, line: str) -> None:
        line = line.rstrip("\r\n")
        if not line.strip():
            return
        self.tail.append(line)
        self._kinds.add(re.sub(r"\d+", "0", line)[:200])
        self._advance(line)
        bare = PREFIX.sub("", line).strip()
        said = bare if EXCEPTION.match(bare) or USAGE.match(bare) else ""
        if said and (not self.exception or UMBRELLA.search(self.exception)):
            self.exception = said  # the first exception above the umbrella is the cause
        if not self.fatal and FATAL.search(line):
            self.fatal = line.strip()

    def _advance(self, line: str) -> None:
        for number, (phase, pattern) in enumerate(PHASES):
            if re.search(pattern, line):
                if number > self._reached:
                    self._reached, self.phase, self.percent = number, phase, -1
                if number == self._reached and (found := PERCENT.search(line)):
                    self.percent = int(found[1])
