"""The scripts by which a host gets what it needs, run on this controller itself."""

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

PIECE = 1 << 16


@dataclass(frozen=True)
class Local:
    """A Runner. `stall` is in seconds in which nothing moves; curl itself minds it."""

    stall: float = 60.0
    say: Callable[[str], None] = lambda _line: None
    host: str = "this controller"

    def run(
        self,
        script: str,
        args: Sequence[str],
        stdin: BinaryIO | None,
        _timeout: float | None,
        heard: Callable[[bytes], object] = lambda _data: None,
    ) -> tuple[int, str, str]:
        """A script's exit code, standard output and standard error; `heard` gets its output as it comes.

        Standard input is short: it is written before anything is read.
        """
        out = bytearray()
        argv = ("sh", "-c", script, "sh", *args)
        with (
            tempfile.TemporaryFile() as complaint,
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaint, bufsize=0) as child,
        ):
            if child.stdin and child.stdout:
                with child.stdin:
                    child.stdin.write(stdin.read() if stdin else b"")
                while data := child.stdout.read(PIECE):
                    out.extend(data)
                    heard(data)
            code = child.wait()
            complaint.seek(0)
            return code, out.decode(errors="replace"), complaint.read().decode(errors="replace").strip()
