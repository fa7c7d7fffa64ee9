"""A Docker engine's HTTP API, as far as a deploy uses it, on the channel of `docker system dial-stdio`."""

import http.server
import json
import re
import struct
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.simulated.machine import Container, Machine


class Answer(http.server.BaseHTTPRequestHandler):
    """Serves one channel until it ends."""

    protocol_version = "HTTP/1.1"
    machine: Machine

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.route()

    do_POST = do_DELETE = do_GET  # noqa: N815  the names are http.server's

    def route(self) -> None:
        raise NotImplementedError

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, value: object = None, code: int = 200) -> None:
        body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"HTTP/1.1 {code} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def stream(self, pieces: Iterator[bytes]) -> None:
        """A body in chunks, each as it comes."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


class EngineAnswer(Answer):
    """GET, POST and DELETE by path; a path nobody simulates is remembered as unknown."""

    def route(self) -> None:
        machine, url = self.machine, urlsplit(self.path)
        query = {key: words[0] for key, words in parse_qs(url.query).items()}
        body = self.read()
        path = re.sub(r"^/v[0-9.]+/", "/", unquote(url.path))
        machine.count("engine")
        time.sleep(machine.delays.trip)
        match [self.command, *path.strip("/").split("/")]:
            case ["GET", "version"]:
                self.reply({"ApiVersion": "1.45", "Version": "26.1.5"})
            case ["GET", "_ping"]:
                self.reply(b"OK")
            case ["GET", "images", "json"]:
                self.reply([self._image(config) for config in machine.images])
            case ["POST", "images", "create"]:
                self._pull(query)
            case ["GET", "images", *name, "json"]:
                config = machine.image("/".join(name))
                self.reply(self._image(config)) if config else self._missing(path)
            case ["POST", "images", *name, "tag"]:
                config = machine.image("/".join(name))
                with machine.lock:
                    for names in machine.images.values():
                        names.discard(f"{query['repo']}:{query['tag']}")
                    machine.images[config].add(f"{query['repo']}:{query['tag']}")
                self.reply(None, 201)
            case ["GET", "containers", "json"]:
                self.reply([_listed(one) for one in tuple(machine.containers.values())])
            case ["POST", "containers", "create"]:
                made = machine.create(query["name"], json.loads(body))
                self.reply({"Id": made.id, "Warnings": []}, 201) if made else self._missing("image")
            case [method, "containers", name, *rest]:
                found = machine.container(name)
                if found is None:
                    self._missing(path)
                else:
                    self._container(method, rest, found, query, body)
            case _:
                self._missing(machine.refuse(f"{self.command} {self.path}")[1])

    def _container(self, method: str, rest: list[str], found: Container, query: dict[str, str], body: bytes) -> None:
        machine = self.machine
        match [method, *rest]:
            case ["GET", "json"]:
                self.reply(found.inspect(machine.described(found.image)))
            case ["GET", "logs"]:
                lines = found.log(float(query.get("since", "0")), machine.delays.start)
                self.reply(b"".join(_frame(line.encode()) for line in lines))
            case ["POST", "start"]:
                machine.start(found)
                self.reply(None, 204)
            case ["POST", "stop"]:
                if found.status == "running":
                    time.sleep(machine.delays.stop)
                found.status = "exited"
                self.reply(None, 204)
            case ["POST", "rename"]:
                found.name = query["name"]
                self.reply(None, 204)
            case ["POST", "update"]:
                found.wish["HostConfig"].update(json.loads(body))
                self.reply({"Warnings": None})
            case ["DELETE"]:
                machine.containers.pop(found.id)
                self.reply(None, 204)
            case _:
                self._missing(machine.refuse(f"{self.command} {self.path}")[1])

    def _pull(self, query: dict[str, str]) -> None:
        machine, reference = self.machine, f"{query['fromImage']}@{query['tag']}"
        image = machine.catalogue.get(query["tag"])
        if image is None:
            self._missing(reference)
            return

        def events() -> Iterator[bytes]:
            steps = 10
            for number in range(steps + 1):
                detail = {"current": number * 1000, "total": steps * 1000}
                event = {"status": "Downloading", "id": "0123456789ab", "progressDetail": detail}
                yield json.dumps(event).encode() + b"\r\n"
                time.sleep(machine.delays.pull / (steps + 1))
            with machine.lock:
                machine.images.setdefault(image.config, set()).add(reference)
            yield b'{"status":"Pull complete","id":"0123456789ab","progressDetail":{}}\r\n'

        self.stream(events())

    def _image(self, config: str) -> dict[str, Any]:
        image, names = self.machine.described(config), sorted(self.machine.images[config])
        return {
            "Id": config,
            "RepoTags": [name for name in names if "@" not in name],
            "RepoDigests": [name for name in names if "@" in name],
            "RootFS": {"Type": "layers", "Layers": list(image.layers)},
            "Config": {"Env": [f"{k}={v}" for k, v in image.env.items()], "Entrypoint": list(image.entrypoint)},
        }

    def _missing(self, what: str) -> None:
        self.reply({"message": f"no such thing: {what}"}, 404)


def _listed(one: Container) -> dict[str, Any]:
    return {
        "Id": one.id,
        "Names": [f"/{one.name}"],
        "State": one.status,
        "Labels": one.wish.get("Labels") or {},
        "Command": " ".join(one.wish.get("Cmd") or ()),
        "HostConfig": {"NetworkMode": (one.wish.get("HostConfig") or {}).get("NetworkMode", "")},
    }


def _frame(data: bytes) -> bytes:
    """A piece of standard output in the form of the API's multiplexed streams."""
    return struct.pack(">BxxxL", 1, len(data)) + data
