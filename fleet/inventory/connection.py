"""`ansible_*` variables to a Connection. Where a variable has several names the last of its row wins, as in Ansible."""

import shlex
from collections.abc import Mapping

from fleet.errors import Problem
from fleet.inventory.convert import secret_of
from fleet.inventory.model import Become, Connection
from fleet.inventory.nodes import Node
from fleet.secret import Secret

ADDRESS = ("ansible_host", "ansible_ssh_host")
PORT = ("ansible_port", "ansible_ssh_port")
USER = ("ansible_user", "ansible_ssh_user")
KEY = ("ansible_private_key_file", "ansible_ssh_private_key_file")
PASSWORD = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
ARGS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
BECOME_USER = ("ansible_become_user",)
BECOME_PASSWORD = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
OTHERS = ("ansible_become", "ansible_become_method", "ansible_connection")
FIELDS = {  # the variables of each field of a Connection
    "address": ADDRESS,
    "port": PORT,
    "user": USER,
    "key_file": KEY,
    "password": PASSWORD,
    "common_args": ARGS,
    "become.enabled": ("ansible_become",),
    "become.user": BECOME_USER,
    "become.password": BECOME_PASSWORD,
}
VARIABLES = (*ADDRESS, *PORT, *USER, *KEY, *PASSWORD, *ARGS, *BECOME_USER, *BECOME_PASSWORD, *OTHERS)
TRUE, FALSE = ("yes", "true", "on", "1", "y", "t"), ("no", "false", "off", "0", "n", "f")


class _Reader:
    def __init__(self, variables: Mapping[str, Node]) -> None:
        self.problems: list[Problem] = []
        self.given: dict[str, Node] = {}
        for name in VARIABLES:
            node = variables.get(name)
            if node is not None and (node.value is not None or node.tag) and not self._templated(name, node):
                self.given[name] = node

    def wrong(self, name: str, node: Node, message: str, hint: str = "") -> None:
        self.problems.append(node.place.problem(name, message, hint))

    def last(self, names: tuple[str, ...]) -> tuple[str, Node] | None:
        return next(((name, self.given[name]) for name in reversed(names) if name in self.given), None)

    def text(self, names: tuple[str, ...]) -> str | None:
        found = self.last(names)
        if not found:
            return None
        name, node = found
        if not isinstance(node.value, str) or any(char in node.value for char in "\0\n"):
            self.wrong(name, node, f"must be a string, not {node.kind}", "quote it" if node.kind == "a number" else "")
            return None
        return node.value or None

    def port(self) -> int | None:
        found = self.last(PORT)
        if not found:
            return None
        name, node = found
        value = node.value
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:9])
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
            self.wrong(name, node, f"must be a port from 1 to 65535, not {node.value!r}")
            return None
        return value

    def switch(self, name: str) -> bool:
        node = self.given.get(name)
        if node is None:
            return False
        word = str(node.value).lower()
        if word not in (*TRUE, *FALSE):
            self.wrong(name, node, f"must be true or false, not {node.kind}")
        return word in TRUE

    def secret(self, names: tuple[str, ...]) -> Secret | None:
        found = self.last(names)
        if not found:
            return None
        name, node = found
        if isinstance(node.value, dict):
            made, problems = secret_of(node, name)
            self.problems += problems
            return made
        if isinstance(node.value, bool) or not isinstance(node.value, str | int):
            self.wrong(name, node, f"must be a string or {{env: NAME}}, not {node.kind}")
            return None
        return Secret(name, literal=str(node.value)) if str(node.value) else None

    def words(self, name: str) -> tuple[str, ...]:
        value = self.text((name,))
        try:
            return tuple(shlex.split(value or ""))
        except ValueError as error:
            self.wrong(name, self.given[name], f"cannot be split as a shell does: {error}", "a quote is not closed")
            return ()

    def one_of(self, name: str, known: tuple[str, ...], hint: str) -> None:
        node = self.given.get(name)
        if node is not None and node.value not in known:
            self.wrong(
                name, node, f"{node.value!r} is not supported" if node.kind == "a string" else "must be a string", hint
            )

    def _templated(self, name: str, node: Node) -> bool:
        inner = [node, *node.value.values()] if isinstance(node.value, dict) else [node]
        for part in inner:
            if part.tag or (isinstance(part.value, str) and ("{{" in part.value or "{%" in part.value)):
                what = f"{part.tag} is" if part.tag else "Jinja is"
                hint = "write the value itself; secrets can be {env: NAME}, {file: PATH} or {command: [..]}"
                self.wrong(name, part, f"{what} not supported in connection variables", hint)
                return True
        return False


def connection_of(host: str, variables: Mapping[str, Node]) -> tuple[Connection, list[Problem]]:
    """How to reach `host`, and what is wrong with its variables."""
    read = _Reader(variables)
    become = Become(read.switch("ansible_become"), read.text(BECOME_USER) or "root", read.secret(BECOME_PASSWORD))
    read.one_of("ansible_become_method", ("sudo", "ansible.builtin.sudo"), "fleet becomes another user by sudo")
    transports = ("ssh", "paramiko", "smart", "ansible.builtin.ssh", "paramiko_ssh", "ansible.builtin.paramiko_ssh")
    read.one_of("ansible_connection", transports, "fleet reaches hosts by ssh: leave it out")
    connection = Connection(
        address=read.text(ADDRESS) or host,
        port=read.port(),
        user=read.text(USER),
        key_file=read.text(KEY),
        password=read.secret(PASSWORD),
        common_args=(*read.words(ARGS[0]), *read.words(ARGS[1])),
        become=become,
    )
    return connection, read.problems
