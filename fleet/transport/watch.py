"""Notices a cut link: asks the server every few seconds whether it is there, as ServerAliveInterval does."""

import contextlib
import threading
import time

import paramiko

from fleet.transport.dial import drop


def watch(transport: paramiko.Transport, requests: threading.Lock, interval: float, count: int) -> None:
    """Close `transport` once `count` intervals (seconds) pass without an answer.

    paramiko's set_keepalive asks for no answer, so behind a bastion it would never notice. `requests` is held while
    asking: paramiko keeps a single answer for all global requests of a connection.
    """

    def ask() -> None:
        while transport.is_active():
            _pause(transport, interval)
            if not transport.is_active():
                return
            alarm = threading.Timer(interval * count, drop, (transport,))
            alarm.daemon = True
            alarm.start()
            try:
                with requests, contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                    transport.global_request("keepalive@openssh.com", wait=True)
            finally:
                alarm.cancel()

    threading.Thread(target=ask, name="fleet-alive", daemon=True).start()


def _pause(transport: paramiko.Transport, seconds: float) -> None:
    """Sleep, and let go of a closed connection within a second."""
    until = time.monotonic() + seconds
    while transport.is_active() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
