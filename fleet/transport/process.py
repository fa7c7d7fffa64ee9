"""Moves the bytes of one remote process: stdin out, stdout and stderr in, all at once."""

import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from fleet.transport.channel import PIECE, Channel

Sink = Callable[[bytes], None]


class Stalled(Exception):  # noqa: N818
    """Nothing moved in either direction for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no progress for {seconds:g} s")
        self.seconds = seconds


class Progress:
    """The moment when bytes last moved."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def moved(self) -> None:
        self._last = time.monotonic()

    def idle(self) -> float:
        return time.monotonic() - self._last


def converse(
    channel: Channel,
    *,
    stdin: BinaryIO | None,
    stdout: Sink,
    stderr: Sink,
    timeout: float | None,
    on_sent: Callable[[int], None] | None = None,
    hold: bool = False,
) -> int:
    """Run the conversation to its end and return the exit code (-1: ended by a signal, or the link died). `hold`: the
    process's stdin does not end before that.

    `timeout` is in seconds without progress, not in all. Raises Stalled, or what reading `stdin` raised.
    """
    progress = Progress()
    failures: list[BaseException] = []
    channel.settimeout(min(max(timeout / 5, 0.02), 5.0) if timeout else None)
    others = [
        threading.Thread(target=_read, args=(channel.recv_stderr, stderr, progress, failures, channel), daemon=True)
    ]
    if stdin is not None:
        write = (channel, stdin, progress, failures, on_sent, hold)
        others.append(threading.Thread(target=_write, args=write, daemon=True))
    elif not hold:
        channel.shutdown_write()
    for thread in others:
        thread.start()
    try:
        _read(channel.recv, stdout, progress, failures, channel, timeout)
        others[0].join()
        code = _exit_code(channel, progress, timeout)
    except Stalled:
        channel.close()
        raise
    if len(others) > 1:
        channel.close()  # a command may end without having read all of its stdin
        others[1].join()
    for failure in failures:
        raise failure
    return code


def _exit_code(channel: Channel, progress: Progress, timeout: float | None) -> int:
    while (code := channel.exit_code(0.5 if timeout else None)) is None:
        _check(progress, timeout)
    return code


def _read(
    receive: Callable[[int], bytes],
    sink: Sink,
    progress: Progress,
    failures: list[BaseException],
    channel: Channel,
    timeout: float | None = None,
) -> None:
    while True:
        try:
            data = receive(PIECE)
        except TimeoutError:
            _check(progress, timeout)
            continue
        if not data:
            return
        progress.moved()
        try:
            sink(data)
        except BaseException as error:  # noqa: BLE001  said by the caller's thread
            failures.append(error)
            channel.close()
            return


def _write(
    channel: Channel,
    stdin: BinaryIO,
    progress: Progress,
    failures: list[BaseException],
    on_sent: Callable[[int], None] | None,
    hold: bool,
) -> None:
    try:
        while data := stdin.read(PIECE):
            _send(channel, data, progress)
            if on_sent is not None:
                on_sent(len(data))
    except BrokenPipeError:
        return  # the command ended first; its exit code says why
    except BaseException as error:  # noqa: BLE001  said by the caller's thread
        failures.append(error)
        channel.close()
        return
    if not hold:
        channel.shutdown_write()


def _send(channel: Channel, data: bytes, progress: Progress) -> None:
    offset = 0
    while offset < len(data):
        try:
            offset += channel.send(data[offset:] if offset else data)
            progress.moved()
        except TimeoutError:  # the other end reads slowly; the reader's clock decides
            continue


def _check(progress: Progress, timeout: float | None) -> None:
    if timeout and progress.idle() >= timeout:
        raise Stalled(timeout)
