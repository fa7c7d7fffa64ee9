"""Bytes that come in pieces, handed over as lines."""

import codecs
import threading
from collections.abc import Callable


class Lines:
    """Bytes in, whole lines out; one lock keeps the lines of two streams (stdout and stderr) apart."""

    def __init__(self, on_line: Callable[[str], None], lock: threading.Lock) -> None:
        self._on_line = on_line
        self._lock = lock
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        with self._lock:
            for line in lines:
                self._on_line(line.removesuffix("\r"))

    def end(self) -> None:
        """Hand over what has no newline."""
        if last := self._rest + self._decoder.decode(b"", final=True):
            self._on_line(last)
