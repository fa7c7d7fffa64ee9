"""Notices a cut link: asks the server every few seconds whether it is there, as ServerAliveInterval does."""

import contextlib
import threading
import time
from collections.abc import Callable

import paramiko

from fleet.transport.dial import drop


def watch(
    transport: paramiko.Transport,
    requests: threading.Lock,
    interval: float,
    count: int,
    given_up: Callable[[str], None] = lambda _: None,
) -> None:
    """Close `transport` once `count` intervals (seconds) pass without an answer; `given_up` gets the reason first.

    paramiko's set_keepalive asks for no answer, so behind a bastion it would never notice. `requests` is held while
    asking: paramiko keeps a single answer for all global requests of a connection.
    """

    def ask() -> None:
        while transport.is_active():
            _pause(transport, interval)
            if not transport.is_active():
                return
            answered = threading.Event()
            threading.Thread(target=guard, args=(answered,), name="fleet-alive-guard", daemon=True).start()
            try:
                with requests, contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                    transport.global_request("keepalive@openssh.com", wait=True)
            finally:
                answered.set()

    def guard(answered: threading.Event) -> None:
        # One interval after the other, as OpenSSH counts: a controller that was suspended, or got no processor, for
        # longer than all of them together has lost one of them and finds the answer that came meanwhile.
        for _ in range(count):
            if answered.wait(interval):
                return
        given_up(f"no answer for {interval * count:g} s")
        drop(transport)

    threading.Thread(target=ask, name="fleet-alive", daemon=True).start()


def _pause(transport: paramiko.Transport, seconds: float) -> None:
    """Sleep, and let go of a closed connection within a second."""
    until = time.monotonic() + seconds
    while transport.is_active() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
