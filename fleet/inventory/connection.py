"""Ansible's connection variables to a Connection. Aliases and their order are those of ansible's ssh plugin."""

import shlex
from collections.abc import Mapping
from typing import Any

from fleet.errors import Problem
from fleet.inventory import convert
from fleet.inventory.document import Entry, problem
from fleet.inventory.model import Become, Connection, Origin
from fleet.inventory.validate import SECRET_FORMS, templates
from fleet.secret import Secret

# Field -> variables, the one that wins first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "address": ("ansible_ssh_host", "ansible_host"),
    "port": ("ansible_ssh_port", "ansible_port"),
    "user": ("ansible_ssh_user", "ansible_user"),
    "key_file": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    "password": ("ansible_ssh_password", "ansible_ssh_pass", "ansible_password"),
    "common_args": ("ansible_ssh_common_args",),
    "extra_args": ("ansible_ssh_extra_args",),
    "become": ("ansible_become",),
    "become_user": ("ansible_sudo_user", "ansible_become_user"),
    "become_method": ("ansible_become_method",),
    "become_password": ("ansible_sudo_pass", "ansible_become_password", "ansible_become_pass"),
    "connection": ("ansible_connection",),
}
# Where a part stands in a Connection, when it is not called like it.
PATHS = {
    "become": "become.enabled",
    "become_user": "become.user",
    "become_password": "become.password",
    "extra_args": "common_args",
}
_TRUE = {True, "true", "yes", "on", "1", "y", "t"}
_FALSE = {False, "false", "no", "off", "0", "n", "f"}


def connection(host: str, variables: Mapping[str, Entry]) -> tuple[Connection, dict[str, Origin], list[Problem]]:
    """The connection of a host, where each part was set (`connection.user`), and what is wrong with it."""
    reader = _Reader(variables)
    become = Become(reader.switch("become"), reader.text("become_user") or "root", reader.secret("become_password"))
    method, kind = reader.text("become_method"), reader.text("connection")
    if method not in ("", "sudo"):
        reader.complain("become_method", f"{method} is not supported", "sudo is, with or without a password")
    if kind not in (
        "",
        "ssh",
        "paramiko",
        "paramiko_ssh",
        "smart",
        "ansible.builtin.ssh",
        "ansible.builtin.paramiko_ssh",
    ):
        reader.complain("connection", f"{kind} is not supported", "hosts are reached by ssh")
    made = Connection(
        address=reader.text("address") or host,
        port=reader.port(),
        user=reader.text("user") or None,
        key_file=reader.text("key_file") or None,
        password=reader.secret("password"),
        common_args=(*reader.words("common_args"), *reader.words("extra_args")),
        become=become,
    )
    return made, reader.origins, reader.problems


class _Reader:
    def __init__(self, variables: Mapping[str, Entry]) -> None:
        self.origins: dict[str, Origin] = {}
        self.problems: list[Problem] = []
        self._found: dict[str, tuple[str, Entry]] = {}
        for part, names in NAMES.items():
            for name in names:
                entry = variables.get(name)
                if entry is not None and entry.value.data is not None:
                    self._found[part] = (name, entry)
                    self.origins[f"connection.{PATHS.get(part, part)}"] = entry.value.origin
                    self.problems += templates(entry.value, name)
                    break

    def complain(self, part: str, message: str, hint: str = "") -> None:
        name, entry = self._found[part]
        self.problems.append(problem(entry.value.origin, name, message, hint))

    def text(self, part: str) -> str:
        data = self._data(part)
        if data is None or isinstance(data, str):
            return data or ""
        if isinstance(data, (dict, tuple, bool)):
            self.complain(part, f"must be text, not {data!r:.40}" if isinstance(data, bool) else "must be text")
            return ""
        return str(data)

    def port(self) -> int | None:
        data = self._data("port")
        if data is None:
            return None
        try:
            port = int(data) if not isinstance(data, (bool, float)) else 0
        except (TypeError, ValueError):
            port = 0
        if not 0 < port < 65536:
            self.complain("port", f"must be a port, not {data!r:.40}")
            return None
        return port

    def switch(self, part: str) -> bool:
        data = self._data(part)
        word = data.lower() if isinstance(data, str) else data
        if word is None or isinstance(word, (dict, tuple)) or word not in _TRUE | _FALSE:
            if word is not None:
                self.complain(part, "must be true or false")
            return False
        return word in _TRUE

    def secret(self, part: str) -> Secret | None:
        data = self._data(part)
        if data is None:
            return None
        name, entry = self._found[part]
        if isinstance(data, dict):
            if len(data) == 1 and next(iter(data)) in ("env", "file", "command"):
                return self._source(entry, name)
            self.complain(part, "is no secret's source", SECRET_FORMS)
            return None
        if isinstance(data, tuple):
            self.complain(part, "must be text or a secret's source", SECRET_FORMS)
            return None
        return Secret(name, literal=str(data))

    def _source(self, entry: Entry, name: str) -> Secret | None:
        kind, inner = next(iter(entry.value.data.items()))
        fine = (
            isinstance(inner.value.data, tuple)
            and inner.value.data
            and all(isinstance(i.data, str) for i in inner.value.data)
            if kind == "command"
            else isinstance(inner.value.data, str)
        )
        if not fine:
            self.problems.append(problem(inner.value.origin, name, "is no secret's source", SECRET_FORMS))
            return None
        return convert.secret(entry.value, name)

    def words(self, part: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.text(part)))
        except ValueError as error:
            self.complain(part, f"cannot be split into words: {error}")
            return ()

    def _data(self, part: str) -> Any:
        return self._found[part][1].value.data if part in self._found else None
