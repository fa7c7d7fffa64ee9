"""Lines in vLLM's manner: `(APIServer pid=1) INFO 11-23 01:02:03 [api_server.py:1839] words`."""

import os
import sys
import time

API = "APIServer"
CORE = "EngineCore_DP0"


def say(place: str, words: str, *, who: str = API, level: str = "INFO") -> None:
    """One line of vLLM's logger; `place` is file.py:line."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    for line in words.splitlines() or [""]:
        raw(f"({who} pid={os.getpid()}) {level} {stamp} [{place}] {line}")


def raw(line: str) -> None:
    """A line as it is: progress bars, uvicorn's words, what native libraries print."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def uvicorn(words: str) -> None:
    raw(f"({API} pid={os.getpid()}) INFO:     {words}")
