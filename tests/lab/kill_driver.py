"""`fleet` in a process of its own that is ended at one call of one function.

    python -m tests.lab.kill_driver POINT NUMBER MOMENT SIGNAL WORD...

POINT is `module:qualified.name`, NUMBER which of its calls (1 = the first). MOMENT is `before`, `after`, or the seconds from
the call's begin on, as `0.5`. SIGNAL is `KILL` or `INT`; WORD... is what an operator types behind `fleet`.
"""

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

from fleet.program import main

REACHED = "the point was reached"  # said on standard error

Point = tuple[str, int, str]  # POINT, NUMBER, MOMENT


def struck(words: Sequence[str], folder: Path, temporary: Path, point: Point, sign: str) -> None:
    """Run what an operator types behind `fleet` in `folder`, with a place of its own for temporary files, to its end."""
    name, number, moment = point
    argv = (sys.executable, "-m", "tests.lab.kill_driver", name, str(number), moment, sign, *words)
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert REACHED in done.stderr, f"{name} was not reached: {done.stderr}"
    assert done.returncode == (-signal.SIGKILL if sign == "KILL" else 130), done.stderr
    assert "Traceback" not in done.stderr


def wrap(point: str, number: int, moment: str, sign: signal.Signals) -> None:
    module, _, path = point.partition(":")
    holder: Any = import_module(module)
    *parents, name = path.split(".")
    if parents:
        holder = attrgetter(".".join(parents))(holder)
    original = getattr(holder, name)
    calls = count(1)

    def end() -> None:
        os.write(2, f"{REACHED}\n".encode())
        os.kill(os.getpid(), sign)

    @functools.wraps(original)
    def fatal(*args: Any, **kwargs: Any) -> Any:
        if next(calls) != number:
            return original(*args, **kwargs)
        if moment == "before":
            end()
        elif moment != "after":
            timer = threading.Timer(float(moment), end)
            timer.daemon = True
            timer.start()
        result = original(*args, **kwargs)
        if moment == "after":
            end()
        return result

    setattr(holder, name, fatal)


if __name__ == "__main__":
    point, number, moment, name, *words = sys.argv[1:]
    wrap(point, int(number), moment, signal.Signals[f"SIG{name}"])
    sys.argv = ["fleet", *words]
    main()
