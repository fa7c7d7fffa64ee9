"""Decides on a server's host key, in the place where paramiko asks: before any credential is sent."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import paramiko

from fleet.errors import RefusedError
from fleet.transport.known_hosts import (
    Entry,
    Judgement,
    Verdict,
    fingerprint,
    judge,
    preferred_algorithms,
    read,
    remember,
)
from fleet.transport.target import Target

Event = Callable[[str, str], None]


@dataclass
class HostKeyGuard(paramiko.MissingHostKeyPolicy):
    """paramiko calls `missing_host_key` for every key, as it is given no known hosts of its own."""

    target: Target
    accept_new: bool
    on_event: Event
    reached: threading.Event = field(default_factory=threading.Event)  # set once the key exchange is done
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        self.entries = read((*self.target.known_hosts, *self.target.global_known_hosts), self._names)

    def algorithms(self, offered: Sequence[str]) -> tuple[str, ...]:
        return preferred_algorithms(self.entries, offered)

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        self.reached.set()
        kind, blob = key.get_name(), key.asbytes()
        judgement = judge(self.entries, self.target.known_name, self._bare_name, kind, blob)
        if judgement.verdict is Verdict.KNOWN:
            return
        if judgement.verdict in {Verdict.UNKNOWN, Verdict.AUTHORITY}:
            if not (self.accept_new or self.target.strict in {"accept-new", "no"}):
                raise self._unknown(judgement, kind, blob)
            self._accept(kind, blob)
            return
        raise self._refused(judgement, kind, blob)

    @property
    def _bare_name(self) -> str:
        return self.target.host_key_alias or self.target.hostname.lower()

    @property
    def _names(self) -> tuple[str, str]:
        return self.target.known_name, self._bare_name

    def _accept(self, kind: str, blob: bytes) -> None:
        target = self.target
        file = target.known_hosts[0] if target.known_hosts else ""
        said = f"accepted the new {_kind(kind)} host key of {target.known_name}, {fingerprint(blob)}"
        if file and remember(file, target.known_name, kind, blob, hash_name=target.hash_names):
            self.on_event(target.label, f"{said}, and wrote it to {file}")
        elif not (file and self._known_by_now(file, kind, blob)):
            self.on_event(target.label, f"{said}; there is no file to remember it in")

    def _known_by_now(self, file: str, kind: str, blob: bytes) -> bool:
        """Another connection may have written the key since; anything else that was written refuses this one."""
        judgement = judge(read([file], self._names), self.target.known_name, self._bare_name, kind, blob)
        if judgement.verdict in {Verdict.CHANGED, Verdict.REVOKED}:
            raise self._refused(judgement, kind, blob)
        return judgement.verdict is Verdict.KNOWN

    def _unknown(self, judgement: Judgement, kind: str, blob: bytes) -> RefusedError:
        target = self.target
        file = target.known_hosts[0] if target.known_hosts else "~/.ssh/known_hosts"
        authority = (
            f" ({judgement.entry.where} is a @cert-authority line; host certificates are not supported)"
            if judgement.entry
            else ""
        )
        port = f"-p {target.port} " if target.port != 22 else ""
        return RefusedError(
            target.label,
            f"the host key of {target.known_name} is not known: {_kind(kind)} {fingerprint(blob)}{authority}",
            hint=f"if the fingerprint is right: --accept-new, or ssh-keyscan {port}{target.hostname} >> {file}",
        )

    def _refused(self, judgement: Judgement, kind: str, blob: bytes) -> RefusedError:
        target, entry = self.target, judgement.entry
        where = entry.where if entry else "known_hosts"
        if judgement.verdict is Verdict.REVOKED:
            message = f"the host key of {target.known_name} is revoked by {where}: {_kind(kind)} {fingerprint(blob)}"
            return RefusedError(target.label, message, hint="the server must get a new host key")
        known = f"{_kind(entry.kind)} {fingerprint(entry.blob)}" if entry else "another"
        file = f" -f {entry.file}" if entry else ""
        return RefusedError(
            target.label,
            f"the host key of {target.known_name} has changed: it shows {_kind(kind)} {fingerprint(blob)}, "
            f"{where} knows {known}; somebody may be in between, or the host was installed anew",
            hint=f"only if you know why it changed: ssh-keygen{file} -R '{target.known_name}'",
        )


def _kind(name: str) -> str:
    return name.removeprefix("ssh-").split("-", maxsplit=1)[0].upper()
