"""`python counted.py FILE fleet's words…`: fleet, and in FILE what it asked of real hosts and what memory it took, as JSON.

A simulated host counts what it is asked; a real one does not, so it is counted where it leaves: `commands` are SSH channels
on which something is run, `http` are requests to Docker's API, to a vLLM and to a registry. `kilobytes` is the process's
greatest resident size; that which its parent is told begins with the parent's own.
"""

import http.client
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko

from fleet.program import main

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def _counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            _counts[kind] += 1
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    target, sys.argv = Path(sys.argv[1]), ["fleet", *sys.argv[2:]]
    for kind, where, name in (
        ("commands", paramiko.Channel, "exec_command"),
        ("http", http.client.HTTPConnection, "putrequest"),
    ):
        setattr(where, name, _counted(kind, getattr(where, name)))
    try:
        main()
    finally:
        most = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
        told = {**_counts, "kilobytes": int(most[1]) if most else 0}
        target.write_text(json.dumps(told), encoding="utf-8")
