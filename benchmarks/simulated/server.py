"""The SSH side of some simulated hosts, in one process: a port each.

    python -m benchmarks.simulated.server SETTINGS.json

Prints the ports as a line of JSON; then, for each line on standard input, what was asked so far. A line may name a host
and what becomes of it: `cut` ends its connections, `away` takes no new ones until `back`, `die` ends its containers,
`break` lets those that are started end at once until `mend`. Ends with its input.
"""

import base64
import contextlib
import json
import shlex
import socket
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import paramiko
from paramiko import common

from benchmarks.simulated.engine import Answer, EngineAnswer
from benchmarks.simulated.machine import Delays, Machine, SimulatedImage
from benchmarks.simulated.vllm import VllmAnswer
from fleet.locks.program import BOOT
from fleet.transport.loginshell import BEGIN, DECODE

SETTLED = 0.003  # seconds until paramiko has surely confirmed a request, after its handler returned


class Front(paramiko.ServerInterface):
    """One connection to a machine. Everybody may log in with any key."""

    def __init__(self, machine: Machine, transport: paramiko.Transport) -> None:
        self.machine, self.transport = machine, transport
        self.forwards: set[int] = set()
        self.opened: deque[paramiko.Channel] = deque(maxlen=64)  # paramiko forgets what nobody else refers to

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, _username: str, _key: paramiko.PKey) -> int:
        return common.AUTH_SUCCESSFUL

    def check_global_request(self, _kind: str, _message: Any) -> bool:
        return False

    def check_channel_request(self, kind: str, _chanid: int) -> int:
        self.machine.count("channels")
        return common.OPEN_SUCCEEDED if kind == "session" else common.OPEN_FAILED_CONNECT_FAILED

    def check_channel_direct_tcpip_request(
        self, chanid: int, _origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self.machine.count("channels")
        if not self.machine.serves(*destination):
            self.machine.count("vllm")
            return common.OPEN_FAILED_CONNECT_FAILED
        self.forwards.add(chanid)
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._execute, args=(channel, command.decode()), daemon=True).start()
        return True

    def forward(self) -> None:
        """Hand every forwarded connection to the vLLM behind it; sessions are served where they are asked for."""
        while self.transport.is_active():
            channel = self.transport.accept(5)
            if channel is None:
                continue
            self.opened.append(channel)
            if channel.get_id() in self.forwards:
                self.forwards.discard(channel.get_id())
                threading.Thread(target=_serve, args=(VllmAnswer, channel, self.machine), daemon=True).start()

    def _execute(self, channel: paramiko.Channel, command: str) -> None:
        time.sleep(SETTLED)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            match _begun(channel, shlex.split(command)):
                case ["docker", "system", "dial-stdio"]:
                    _serve(EngineAnswer, channel, self.machine)
                    code = 0
                case ["sh", "-s", "--", *args]:
                    self.machine.count("commands")
                    code, said = self.machine.script(_all_of(channel), args)
                    channel.sendall(said.encode())
                case ["sh", "-c", program, "sh", "take", _place, _shell, _lease, *owner] if program == BOOT:
                    self.machine.count("commands")
                    code = _hold(channel, self.machine, tuple(owner))
                case words:
                    self.machine.count("commands")
                    code, said = self.machine.refuse(shlex.join(words))
                    channel.sendall_stderr(said.encode())
            channel.send_exit_status(code)
            channel.close()


def _begun(channel: paramiko.Channel, words: list[str]) -> list[str]:
    """The command itself, after the first words of a quiet POSIX shell (fleet.transport.loginshell)."""
    match words:
        case ["sh", "-c", program, "sh", *letters] if program == DECODE:
            line = base64.b64decode("".join(letters)).decode()
            return _begun(channel, shlex.split(line.removeprefix("exec ")))
        case ["sh", "-c", program, mark, *command] if program == BEGIN:
            channel.sendall(f"{mark}/bin/sh\n".encode())
            channel.sendall_stderr(f"{mark}\n".encode())
            return command
    return words


def _all_of(channel: paramiko.Channel) -> str:
    found = b""
    while data := channel.recv(1 << 16):
        found += data
    return found.decode()


def _hold(channel: paramiko.Channel, machine: Machine, owner: tuple[str, ...]) -> int:
    """The lock's holder: after its own program, which is passed over, it confirms every line that wants it."""
    lines = channel.makefile("rb")
    while (line := lines.readline()) and line != b"#end\n":
        pass
    if not (held := machine.take(owner)):
        channel.sendall(machine.held().encode())
        return 4
    try:
        channel.sendall(b"fleet-lock held\n")
        while line := lines.readline():
            verb, *words = line.decode().split()
            if verb in ("beat", "arm", "disarm", "release"):
                machine.count("beats" if verb == "beat" else "commands")
                machine.holder = () if verb == "release" else machine.holder
                channel.sendall(f"fleet-lock ok {words[-1]}\n".encode())
            if verb == "release":
                break
    finally:
        machine.holder = machine.holder if machine.holder is not held else ()
    return 0


def _serve(kind: type[Answer], channel: paramiko.Channel, machine: Machine) -> None:
    with contextlib.suppress(OSError, EOFError):
        handler: Any = type(kind.__name__, (kind,), {"machine": machine})
        handler(channel, ("controller", 0), None)
    channel.close()


class Door:
    """The port of a machine."""

    def __init__(self, machine: Machine, key: paramiko.PKey) -> None:
        self.machine, self.key = machine, key
        self.transports: list[paramiko.Transport] = []
        self.port = self.open(0)

    def open(self, port: int) -> int:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return int(self.listener.getsockname()[1])

    def happen(self, what: str) -> None:
        match what:
            case "cut" | "away":
                if what == "away":
                    self.listener.shutdown(socket.SHUT_RDWR)
                    self.listener.close()
                for transport in self.transports:
                    with contextlib.suppress(OSError):  # it has ended already
                        transport.sock.shutdown(socket.SHUT_RDWR)
                self.transports = []
            case "back":
                self.open(self.port)
            case "die":
                self.machine.die()
            case "break" | "mend":
                self.machine.broken = what == "break"

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._greet, args=(client,), daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        self.machine.count("connections")
        transport = paramiko.Transport(client)
        self.transports.append(transport)
        transport.add_server_key(self.key)
        front = Front(self.machine, transport)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=front)
            front.forward()


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    key = paramiko.PKey.from_path(settings["host_key"])
    catalogue = {image["manifest"]: SimulatedImage.load(image) for image in settings["images"]}
    doors = {name: Door(Machine(name, Delays(**settings["delays"]), catalogue), key) for name in settings["hosts"]}
    machines = [door.machine for door in doors.values()]
    print(json.dumps({name: door.port for name, door in doors.items()}), flush=True)
    for line in sys.stdin:
        for name, what in (line.split(),) if line.strip() else ():
            doors[name].happen(what)
        total: Counter[str] = Counter()
        for machine in machines:
            total.update(machine.counts)
        unknown = [text for machine in machines for text in machine.unknown]
        serving = sum(machine.answers() for machine in machines)
        print(json.dumps({"counts": total, "unknown": unknown, "serving": serving}), flush=True)


if __name__ == "__main__":
    main()
