"""The engine at its load while the layers arrive: it has read most of them when the last one is there."""

import io
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, Self, cast

from fleet.delivery import scripts
from fleet.delivery.send import LinkError, Sender
from fleet.delivery.staging import Staging, hexes
from fleet.image import docker_archive
from fleet.image.layout import Blob, LayoutImage

# An engine with the containerd store (26.1) unpacks a loaded image without a word; a ROCm image takes it minutes.
UNPACK = 1800.0  # seconds
STOPPED = 10.0  # seconds for the engine to end after a transfer that failed

Result = tuple[int, str, str]  # exit code, standard output, standard error


class Loading:
    """`docker load` of an image on one host. Enter, `begin` when the directory is known, stage, leave, `end`."""

    def __init__(self, sender: Sender, image: LayoutImage, name: str, layers: Sequence[Blob]) -> None:
        self._sender, self._image, self._name, self._layers = sender, image, name, layers
        self._word = _Word()
        self._thread: threading.Thread | None = None
        self._args: tuple[str, ...] = ()
        self._result: Result | LinkError | BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """What is on its way is whole now, or will not come: then the engine is stopped."""
        self._word.say(b"" if kind else b"whole\n")
        if kind and self._thread:
            self._thread.join(STOPPED)

    def begin(self, staging: Staging) -> None:
        """The engine begins to read; nothing of the layers needs to be there. Raises HostError, LinkError."""
        frame = docker_archive.frame(self._image, self._name, self._layers)
        config, *layers = hexes((self._image.config.digest, *(one.digest for one in self._layers)))
        place = (staging.directory, config)
        self._sender.command(scripts.FRAME, *place, stdin=io.BytesIO(b"".join((frame.front, *frame.heads))))
        sizes = (f"{hexed}:{layer.size}" for hexed, layer in zip(layers, self._layers, strict=True))
        self._args = (*place, str(len(frame.front) // docker_archive.BLOCK), *sizes)
        self._start()

    def end(self) -> tuple[int, str]:
        """The script's exit code and the engine's complaint, empty when it had none. Raises HostError, LinkError."""
        code, said, complaint = self._joined()
        if code == scripts.EARLY:  # it gave up while the layers came: an engine that was restarted, say
            self._word = _Word()
            self._word.say(b"whole\n")
            self._start()
            code, said, complaint = self._joined()
        return code, (complaint or said or f"docker load ended with {code}") if code else ""

    def _start(self) -> None:
        self._result = None
        self._thread = threading.Thread(target=self._run, args=(self._word,), name="fleet-load", daemon=True)
        self._thread.start()

    def _run(self, word: "_Word") -> None:
        try:
            # Not a byte moves until the layers are there, however long that takes.
            self._result = self._sender.run(scripts.LOAD, self._args, cast("BinaryIO", word), None)
        except BaseException as error:  # noqa: BLE001  raised where the result is taken
            self._result = error

    def _joined(self) -> Result:
        if self._thread is not None:
            self._thread.join(UNPACK)
        result = self._result
        if result is None:
            raise LinkError(self._sender.host, f"the engine took more than {UNPACK:.0f} s to unpack what it was given")
        if isinstance(result, BaseException):
            raise result
        return result


class _Word:
    """A file with one word in it, which whoever reads it has to wait for."""

    def __init__(self) -> None:
        self._said = threading.Event()
        self._word = b""

    def say(self, word: bytes) -> None:
        self._word = word
        self._said.set()

    def read(self, _size: int = -1) -> bytes:
        self._said.wait()
        word, self._word = self._word, b""
        return word
