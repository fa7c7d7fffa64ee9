"""One live SSH connection to one host: commands, scripts, streams, uploads, tunnels."""

import contextlib
import io
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Self

import fabric
import paramiko

from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.transport import sudo as become
from fleet.transport.channel import Channel
from fleet.transport.dial import drop
from fleet.transport.lines import Lines
from fleet.transport.output import Output
from fleet.transport.process import Sink, Stalled, converse
from fleet.transport.starter import OPEN_TIMEOUT, SUDO_TIMEOUT, Starter, describe
from fleet.transport.terminal import join
from fleet.transport.tunnel import RemoteForwards, listening

NOT_FOUND = 127  # POSIX sh, "command not found"

# Writes beside the target, then renames: nobody ever sees half a file, and a cut link cannot pass for an end of file.
UPLOAD = """
umask 077
trap 'rm -f -- "$2"' EXIT
trap 'exit 1' HUP INT TERM
cat > "$2" || exit 1
got=$(wc -c < "$2") || exit 1
[ "$got" -eq "$4" ] || { echo "only $got of $4 bytes arrived" >&2; exit 1; }
chmod "$3" "$2" && mv -f -- "$2" "$1"
"""


class Session:
    """Thread-safe; at most 8 channels at once. Every failure is a HostError that says what was being done.

    `sudo=True` means: as the become user where `become` is set, else as the login user.
    """

    def __init__(
        self,
        host: Host,
        connection: fabric.Connection,
        *,
        user: str,
        via: tuple[str, ...] = (),
        on_close: Callable[["Session"], None] | None = None,
    ) -> None:
        self.host = host
        self.user = user
        self.via = via  # the bastions on the way, for people
        self.requests = threading.Lock()  # held by whoever waits for the answer to a global request
        self._connection = connection
        self._transport: paramiko.Transport = connection.transport
        self._starter = Starter(host.name, user, host.connection.become, self._transport)
        self._on_close = on_close
        self._forwards = RemoteForwards(host.name, self._transport, self.requests)

    # Commands

    def run(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
        waited_for: bool = False,
    ) -> Output:
        """Run a command to its end. `timeout` is in seconds without progress. `check` raises for exit codes but 0.

        `waited_for`: its stdin stays open until it has ended, so that it can tell when we, or the connection, are gone.
        """
        what = describe(argv)
        return self._run(argv, sudo, io.BytesIO(stdin) if stdin else None, timeout, check, what, hold=waited_for)

    def script(
        self,
        text: str,
        *,
        args: Sequence[str] = (),
        sudo: bool = False,
        timeout: float | None = None,
        check: bool = True,
    ) -> Output:
        """Run a POSIX sh script with $1… from `args`. The text travels by stdin; its own commands read /dev/null."""
        body = f"{{\n{text}\n}} </dev/null\nexit $?\n".encode()
        argv = ("sh", "-s", "--", *args)
        return self._run(argv, sudo, io.BytesIO(body), timeout, check, "a script")

    def stream(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        on_line: Callable[[str], None],
        stdin: bytes | None = None,
        waited_for: bool = False,
    ) -> int:
        """Run a command and hand over every line of stdout and stderr as it comes; returns the exit code.

        `waited_for` as in `run`.
        """
        lock = threading.Lock()
        out, err = Lines(on_line, lock), Lines(on_line, lock)
        what = describe(argv)
        with self._starter.start(argv, sudo) as channel:
            given = io.BytesIO(stdin) if stdin else None
            code = self._converse(channel, what, given, out, err, None, hold=waited_for)
        out.end()
        err.end()
        return code

    def interact(self, argv: Sequence[str], *, sudo: bool = False, terminal: bool = True) -> int:
        """A command joined to our standard input and output, on a terminal of its own or without one.

        On a terminal sudo may ask a person. Returns the exit code.
        """
        by_sudo = ("sudo", "-u", self.host.connection.become.user, "--") if sudo and self._starter.becomes else ()
        with (
            self._starter.execute((*by_sudo, *argv), argv, terminal=True)
            if terminal
            else self._starter.start(argv, sudo, raw=True) as channel
        ):
            join(channel.raw)
            code = channel.exit_code(OPEN_TIMEOUT)
        if code is None or (code < 0 and not self._transport.is_active()):
            self._starter.lost(describe(argv))
        return code

    def open_process(self, argv: Sequence[str], *, sudo: bool = False, lasting: bool = False) -> Channel:
        """Start a command and hand over its raw channel; the caller closes it. `lasting`: not before the session ends."""
        channel = self._starter.start(argv, sudo)
        if lasting:
            self._starter.slots.lasts(1)
            channel.on_close(lambda: self._starter.slots.lasts(-1))
        return channel

    def upload(
        self,
        source: BinaryIO,
        path: str,
        *,
        mode: int = 0o644,
        sudo: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Write `source` to `path` on the host, whole or not at all. `on_bytes` gets the size of every piece sent."""
        with contextlib.ExitStack() as stack:
            if not source.seekable():
                spool = stack.enter_context(tempfile.TemporaryFile())
                while piece := source.read(1 << 20):
                    spool.write(piece)
                spool.seek(0)
                source = spool
            start = source.tell()
            size = source.seek(0, os.SEEK_END) - start
            source.seek(start)
            staged = f"{path}.fleet-{secrets.token_hex(4)}"
            argv = ("sh", "-c", UPLOAD, "sh", path, staged, f"{mode:o}", str(size))
            self._run(argv, sudo, source, None, True, f"writing {path}", on_bytes)

    # Tunnels

    def connect_tcp(self, address: str, port: int) -> Channel:
        """A TCP connection made by the host (direct-tcpip)."""
        try:
            raw = self._transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=OPEN_TIMEOUT)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self._transport.is_active():
                self._starter.lost(f"connecting to {address}:{port}", error)
            why = error.text if isinstance(error, paramiko.ChannelException) else "refused"
            message = f"the host cannot connect to {address}:{port}: {why}"
            raise HostError(self.host.name, message, hint="does it listen there? AllowTcpForwarding?") from error
        return Channel(raw)

    def forward_local(self, port: int, address: str = "127.0.0.1") -> AbstractContextManager[tuple[str, int]]:
        """A local listener that leads to the host's `address:port`; yields its own (address, port)."""
        return listening(lambda: self.connect_tcp(address, port))

    def forward_remote(self, host_port: int, local_address: str, local_port: int) -> AbstractContextManager[int]:
        """A listener on the host's loopback that leads to us; port 0 lets the host choose. Yields the host's port."""
        return self._forwards.open(host_port, (local_address, local_port))

    # The end

    @property
    def alive(self) -> bool:
        return bool(self._connection.is_connected)

    def given_up(self, why: str) -> None:
        """Have commands that find the connection lost say `why`."""
        self._starter.reason = why

    def close(self) -> None:
        """End the connection at once; running commands see it as lost."""
        self._starter.reason = self._starter.reason or "we closed it"
        drop(self._transport)
        if self._on_close is not None:
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self,
        argv: Sequence[str],
        sudo: bool,
        stdin: BinaryIO | None,
        timeout: float | None,
        check: bool,
        what: str,
        on_sent: Callable[[int], None] | None = None,
        *,
        hold: bool = False,
    ) -> Output:
        out, err = bytearray(), bytearray()
        with self._starter.start(argv, sudo) as channel:
            code = self._converse(channel, what, stdin, out.extend, err.extend, timeout, on_sent, hold=hold)
        output = Output(code, out.decode(errors="replace"), err.decode(errors="replace"))
        if code and sudo and self._starter.becomes:
            self._check_sudo(output)
        if check and code:
            how = "was ended by a signal" if code < 0 else f"exited with {code}"
            raise HostError(self.host.name, f"{what} {how}", tail=output.tail())
        return output

    def _converse(
        self,
        channel: Channel,
        what: str,
        stdin: BinaryIO | None,
        stdout: Sink,
        stderr: Sink,
        timeout: float | None,
        on_sent: Callable[[int], None] | None = None,
        *,
        hold: bool = False,
    ) -> int:
        try:
            code = converse(
                channel, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout, on_sent=on_sent, hold=hold
            )
        except Stalled as error:
            raise HostError(self.host.name, f"{what}: {error}", hint="it was left running on the host") from error
        if code < 0 and not self._transport.is_active():
            self._starter.lost(what)
        return code

    def _check_sudo(self, output: Output) -> None:
        """Tell sudo's own refusal from the command's failure. Its prefix only raises the question; `true` answers it."""
        wanted = self.host.connection.become
        if output.exit_code == NOT_FOUND:
            if not self._run(("sh", "-c", "command -v sudo"), False, None, SUDO_TIMEOUT, False, "looking for sudo").ok:
                raise HostError(
                    self.host.name, "there is no sudo on the host", hint="install it, or log in as root without become"
                )
            return
        if wanted.password is not None or output.stdout or not output.stderr.startswith("sudo: "):
            return
        probe = become.without_password(("true",), wanted.user)
        if not self._run(probe, False, None, SUDO_TIMEOUT, False, "asking sudo").ok:
            raise HostError(
                self.host.name,
                f"sudo does not let {self.user} become {wanted.user} without a password",
                hint="set ansible_become_password, or NOPASSWD in sudoers",
                tail=output.tail(),
            )
