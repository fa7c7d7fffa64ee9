"""Logging in: keys by name, the agent, default keys, then a password. Never says a secret."""

import base64
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import UnknownKeyType

from fleet.errors import RefusedError
from fleet.transport.target import Target


class _Agent(AgentSSH):
    """paramiko's own Agent only ever looks at SSH_AUTH_SOCK; IdentityAgent may name another socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(10)
        connection.connect(path)
        self._connect(connection)  # type: ignore[attr-defined]  # the stubs lack it

    def leave(self) -> None:
        """Close the socket; no more signatures are wanted."""
        self._close()  # type: ignore[attr-defined]  # the stubs lack it


@dataclass
class Login:
    """paramiko's AuthStrategy in duck form: `authenticate(transport)` logs in or raises RefusedError."""

    target: Target
    tried: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)  # key files that want a passphrase
    unusable: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()  # what the server said last
    _agent: _Agent | None = None

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        try:
            return self._authenticate(transport)
        except (EOFError, OSError, paramiko.SSHException) as error:
            raise self._refused(f"the server hung up while logging in ({error or type(error).__name__})") from error
        finally:
            if self._agent is not None:
                self._agent.leave()

    def _authenticate(self, transport: paramiko.Transport) -> list[str]:
        if self.target.public_key_allowed:
            for name, key in self._keys():
                self.tried.append(name)
                try:
                    further = transport.auth_publickey(self.target.user, key)
                except paramiko.BadAuthenticationType as error:
                    self.allowed = tuple(error.allowed_types)
                    break  # the server takes no keys
                except paramiko.AuthenticationException:
                    if not transport.is_active():
                        raise
                    continue
                if not further:
                    return []
                self.allowed = tuple(further)  # a second factor is wanted
                break
        password = self.target.password
        if password is not None and self.target.password_allowed:
            self.tried.append("password")
            try:
                further = transport.auth_password(self.target.user, password.reveal())
            except paramiko.BadAuthenticationType as error:
                self.allowed = tuple(error.allowed_types)
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise
            else:
                if not further:
                    return []
                self.allowed = tuple(further)
        raise self._refused("", self._methods(transport))

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        """Every key worth offering, by name; each file is read only when its turn comes."""
        agent = self._agent_keys()
        offered: set[bytes] = set()
        for file in self.target.identities:
            for name, key in self._from_file(file, agent):
                offered.add(key.asbytes())
                yield name, key
        if not self.target.identities_only:
            for key in agent:
                if key.asbytes() not in offered:
                    offered.add(key.asbytes())
                    yield f"agent key {getattr(key, 'comment', '') or key.get_name()}", key
        for file in self.target.fallback_identities:
            if not Path(file).is_file():
                continue
            for name, key in self._from_file(file, agent):
                if key.asbytes() not in offered:
                    yield name, key

    def _from_file(self, file: str, agent: tuple[AgentKey, ...]) -> Iterator[tuple[str, paramiko.PKey]]:
        public = public_blob(file)
        held = next((key for key in agent if public is not None and key.asbytes() == public), None)
        if held is not None:
            yield file, held
            return
        if not Path(file).is_file():
            self.unusable.append(f"{file} does not exist")
            return
        try:
            state = Path(file).stat()
            yield file, _key(file, (state.st_ino, state.st_size, state.st_mtime_ns))
        except (paramiko.PasswordRequiredException, TypeError):
            self.locked.append(file)
        except PermissionError:
            self.unusable.append(f"{file} is not readable")
        except (OSError, ValueError, paramiko.SSHException, UnknownKeyType) as error:
            self.unusable.append(f"{file} cannot be used: {type(error).__name__}")

    def _agent_keys(self) -> tuple[AgentKey, ...]:
        name = self.target.agent
        path = name if "/" in name else os.environ.get(name, "")
        if not path:
            return ()
        try:
            self._agent = _Agent(path)
            return tuple(self._agent.get_keys())
        except (OSError, paramiko.SSHException):
            return ()

    def _methods(self, transport: paramiko.Transport) -> tuple[str, ...]:
        if self.allowed or not transport.is_active():
            return self.allowed
        try:
            transport.auth_none(self.target.user)
        except paramiko.BadAuthenticationType as error:
            return tuple(error.allowed_types)
        except (paramiko.SSHException, EOFError, OSError):
            return ()
        return ()

    def _refused(self, why: str, methods: tuple[str, ...] = ()) -> RefusedError:
        target = self.target
        parts = [f"cannot log in as {target.user}@{target.address}"]
        if why:
            parts.append(why)
        if methods:
            parts.append(f"the server allows {', '.join(methods)}")
        parts.append(f"tried {', '.join(self.tried)}" if self.tried else "there was nothing to try")
        parts += self.unusable
        if self.locked:
            hint = f"{self.locked[0]} wants a passphrase: ssh-add {self.locked[0]}"
        elif "password" in self.tried:
            hint = "is ansible_password right?"
        elif methods and "publickey" not in methods:
            hint = "set ansible_password: this server takes no keys"
        else:
            hint = f"ssh-copy-id {target.user}@{target.hostname}, or set ansible_ssh_private_key_file"
        return RefusedError(target.label, "; ".join(parts), hint=hint)


@lru_cache(maxsize=16)
def _key(file: str, _state: tuple[int, ...]) -> paramiko.PKey:
    """A private key, read once for all hosts that take it, and again after each change of its file."""
    return paramiko.PKey.from_path(file)


def public_blob(file: str) -> bytes | None:
    """The public half of a key file, from its .pub or from the clear part of an OpenSSH private key."""
    for candidate in (file, f"{file}.pub"):
        try:
            words = Path(candidate).read_bytes()
        except OSError:
            continue
        if words.startswith((b"ssh-", b"ecdsa-", b"sk-")):
            try:
                return base64.b64decode(words.split()[1])
            except (ValueError, IndexError):
                continue
        blob = _clear_part(words)
        if blob is not None:
            return blob
    return None


def _clear_part(pem: bytes) -> bytes | None:
    """openssh-key-v1 keeps the public key unencrypted (PROTOCOL.key in OpenSSH's source)."""
    lines = pem.split(b"\n")
    if not lines[0].startswith(b"-----BEGIN OPENSSH PRIVATE KEY"):
        return None
    try:
        raw = base64.b64decode(b"".join(line for line in lines if not line.startswith(b"-----")))
    except ValueError:
        return None
    rest = raw.removeprefix(b"openssh-key-v1\0")
    for _ in range(3):  # cipher, kdf, kdf options
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    rest = rest[4:]  # number of keys
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")] or None
