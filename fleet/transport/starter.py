"""Starting commands on a connection: a channel for each, within what the server allows, and past sudo's question."""

import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import paramiko

from fleet.errors import HostError, LostError
from fleet.inventory.model import Become
from fleet.transport import sudo as sudo_words
from fleet.transport.channel import Channel
from fleet.transport.loginshell import LoginShell, portable
from fleet.transport.slots import Slots
from fleet.transport.terminal import open_terminal

REFUSED = (0.2, 0.5, 1.0)  # seconds to wait after a refused channel
OPEN_TIMEOUT = 30.0  # seconds for the server to open a channel
SUDO_TIMEOUT = 60.0  # seconds for sudo to ask, or to start the command


class _Patient(threading.Event):
    """What paramiko waits on for the answer to a request, without any limit. A channel that closes just before it begins
    to wait is not noticed there, so the wait ends by itself; without the answer that counts as a refusal.
    """

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(OPEN_TIMEOUT if timeout is None else timeout):
            self.set()
        return True


@dataclass
class Starter:
    """`name` is the host's, for messages; `user` is who we logged in as, `become` who we want to be. Thread-safe."""

    name: str
    user: str
    become: Become
    transport: paramiko.Transport
    slots: Slots = field(default_factory=Slots)
    shell: LoginShell = field(default_factory=LoginShell)
    reason: str = ""  # why the connection is no more, where we know better than the library

    @property
    def becomes(self) -> bool:
        """Is sudo needed to be who we want to be?"""
        return self.become.enabled and self.become.user != self.user

    def start(self, argv: Sequence[str], sudo: bool, *, raw: bool = False) -> Channel:
        """The command's channel, past sudo's question and what the login shell says. `raw`: not past the latter."""
        if not (sudo and self.becomes):
            return self.execute(argv, argv, raw=raw)
        wanted = self.become
        if wanted.password is None:
            return self.execute(sudo_words.without_password(argv, wanted.user), argv, raw=raw)
        marks = sudo_words.Marks()
        channel = self.execute(sudo_words.with_password(argv, wanted.user, marks), argv, raw=raw)
        try:
            self._answer_sudo(channel, marks, wanted.password.reveal())
        except BaseException:
            channel.close()
            raise
        return channel

    def execute(
        self, command: Sequence[str], argv: Sequence[str], *, terminal: bool = False, raw: bool = False
    ) -> Channel:
        what = describe(argv)
        channel = self._open_session(what)
        channel.event = _Patient()
        line, marked = (portable(command), False) if terminal or raw else self.shell.line(command)
        try:
            if terminal:
                open_terminal(channel)
            channel.exec_command(line)
        except (paramiko.SSHException, EOFError, OSError) as error:
            channel.close()
            self.slots.release()
            if self.transport.is_active():
                message = f"the server refused to run {what}"
                raise HostError(self.name, message, hint="a ForceCommand or a restricted key?") from error
            self.lost(what, error)
        return Channel(channel, self.slots.release, self.shell if marked else None)

    def _open_session(self, what: str) -> paramiko.Channel:
        while True:
            if not self.slots.acquire():
                message = f"{what} waited in vain for a free channel of the connection"
                raise HostError(self.name, message, hint="too much at once on one host")
            try:
                return self._opened()
            except (paramiko.SSHException, EOFError, OSError) as error:
                if not self.transport.is_active():
                    self.slots.release()
                    self.lost(what, error)
                # A refusal. When two meet, paramiko gives the ChannelException to one and a bare SSHException to the
                # other, so the type says nothing. Whoever holds other channels waits until one of them is free.
                if not self.slots.shrink():
                    message = f"the server refused a channel for {what}: {error}"
                    raise HostError(self.name, message, hint="MaxSessions in its sshd_config") from error

    def _opened(self) -> paramiko.Channel:
        """A session channel. Refusals are tried again: sshd counts a session until its last process is gone."""
        for pause in REFUSED:
            try:
                return self.transport.open_session(timeout=OPEN_TIMEOUT)
            except (paramiko.SSHException, EOFError, OSError):
                if not self.transport.is_active():
                    raise
                time.sleep(pause)
        return self.transport.open_session(timeout=OPEN_TIMEOUT)

    def _answer_sudo(self, channel: Channel, marks: sudo_words.Marks, password: str) -> None:
        """Wait until sudo asks or the command starts; answer once. A second question means a wrong password."""
        said, asked = b"", 0
        channel.settimeout(SUDO_TIMEOUT)
        while True:
            try:
                piece = channel.recv_stderr(4096)
            except TimeoutError:
                piece = b""
            said += piece
            before, ready, after = said.partition(marks.ready.encode())
            if ready:
                channel.settimeout(None)
                channel.unread_stderr(after)
                return
            questions = before.count(marks.prompt.encode())
            if questions > 1:
                raise HostError(
                    self.name,
                    f"sudo did not take the password of {self.user}",
                    hint="is ansible_become_password right?",
                )
            if questions > asked:
                asked = questions
                channel.sendall(password.encode() + b"\n")
            if not piece:
                words = before.replace(marks.prompt.encode(), b"").decode(errors="replace").strip()
                if not self.transport.is_active():
                    self.lost("asking sudo")
                raise HostError(
                    self.name,
                    f"sudo did not start the command: {words or 'it said nothing'}",
                    hint=f"may {self.user} become {self.become.user} on this host?",
                )

    def lost(self, what: str, error: BaseException | None = None) -> NoReturn:
        reason = self.reason or _last_words(self.transport)
        raise LostError(
            self.name,
            f"the connection was lost during {what}" + (f": {reason}" if reason else ""),
            hint="the host may have gone on with it; look before you repeat it",
        ) from error


def _last_words(transport: paramiko.Transport) -> str:
    """What ended the library's reader: a reset, a broken packet. Nothing for a plain end of the stream."""
    error = transport.saved_exception
    if error is None or isinstance(error, (EOFError, paramiko.ChannelException)):
        return ""
    return str(error) or type(error).__name__


def describe(argv: Sequence[str]) -> str:
    """A command for people: one line, at most 100 characters; of a script its first line."""
    words = shlex.join(map(_first_line, argv))
    return f"`{words}`" if len(words) <= 100 else f"`{words[:99]}…`"


def _first_line(word: str) -> str:
    first, *more = word.strip().splitlines() or [""]
    return f"{first} …" if more else first
