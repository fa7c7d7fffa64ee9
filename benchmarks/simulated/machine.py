"""One simulated host: its images and containers, and what it answers to the scripts that a controller sends."""

import copy
import hashlib
import json
import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fleet.facts import PROBE
from fleet.journal.audit import APPEND, READ_ALL
from fleet.locks.program import PROGRAM
from fleet.rollout.past import LEAVE_SERVED, READ_SERVED
from fleet.serving.observe import STATE, VRAM

DATA = Path(__file__).parents[2] / "tests/data"
GPUS = range(128, 192, 8)  # render minors of the captured host, an MI300X x 8
TOTAL, IDLE = 206_141_652_992, 297_000_000  # bytes of VRAM, in all and in use on an idle GPU
LINES = (  # (part of the start-up time, line) of vLLM's log
    (0.0, "INFO 11-23 04:00:00 [api_server.py:1839] vLLM API server version 0.11.0"),
    (0.3, "INFO 11-23 04:00:01 [gpu_model_runner.py:2602] Starting to load model tiny-chat..."),
    (0.6, "Loading safetensors checkpoint shards: 100% Completed | 1/1"),
    (1.0, "INFO:     Application startup complete."),
)
PUT = re.compile(r"^put '(\S+)' <<'\S+'.*\n(.*\n)", re.MULTILINE)  # a record that a controller leaves


@dataclass(frozen=True)
class Delays:
    """Seconds that a host takes. `trip` is for every command and request, `start` until a vLLM answers."""

    trip: float = 0.005
    probe: float = 0.2
    pull: float = 1.0
    stop: float = 1.0
    start: float = 4.0
    token: float = 0.01


@dataclass(frozen=True)
class SimulatedImage:
    """What an engine and a registry say of an image."""

    manifest: str
    config: str
    layers: tuple[str, ...]
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> "SimulatedImage":
        return cls(
            data["manifest"], data["config"], tuple(data["layers"]), dict(data["env"]), tuple(data["entrypoint"])
        )


@dataclass
class Container:
    """A container as it was asked for, and how it is."""

    id: str
    name: str
    image: str  # config digest
    wish: dict[str, Any]
    status: str = "created"
    started: float = 0.0  # time.time()

    @property
    def port(self) -> int:
        return int(self.wish.get("Labels", {}).get("io.fleet.port", "0"))

    @property
    def bound(self) -> str:
        words = list(self.wish.get("Cmd") or ())
        return str(words[words.index("--host") + 1])

    def ready(self, start: float) -> bool:
        return self.status == "running" and time.time() - self.started >= start

    def log(self, since: float, start: float) -> list[str]:
        """Lines with time stamps, as far as the start-up has come."""
        now = time.time()
        lines = ((self.started + part * start, text) for part, text in LINES)
        return [f"{stamp(at)} {text}\n" for at, text in lines if self.started and since <= at <= now]

    def inspect(self, image: SimulatedImage) -> dict[str, Any]:
        value = copy.deepcopy(_container())
        host = self.wish.get("HostConfig") or {}
        config = {key: entry for key, entry in self.wish.items() if key not in ("HostConfig", "NetworkingConfig")}
        config["Env"] = [f"{key}={word}" for key, word in image.env.items()] + list(config.get("Env") or ())
        config["Entrypoint"] = config.get("Entrypoint") or list(image.entrypoint)
        value.update(Id=self.id, Name=f"/{self.name}", Image=self.image, RestartCount=0)
        value["Config"].update(config)
        value["HostConfig"].update(host)
        value["Mounts"] = [_mount(mount) for mount in host.get("Mounts") or ()]
        value["State"].update(
            Status=self.status,
            Running=self.status == "running",
            ExitCode=0,
            Error="",
            StartedAt=stamp(self.started) if self.started else "0001-01-01T00:00:00Z",
        )
        return value


@dataclass
class Machine:
    """`counts` tells what was asked of it: connections, channels, commands, engine (requests), vllm (requests).

    `holder` are the words of whoever has its lock; `broken`: a vLLM that is started ends at once.
    """

    name: str
    delays: Delays
    catalogue: Mapping[str, SimulatedImage]  # by manifest digest: what its registry has
    images: dict[str, set[str]] = field(default_factory=dict)  # config digest -> names, digests with @
    containers: dict[str, Container] = field(default_factory=dict)  # by id
    counts: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    served: dict[str, str] = field(default_factory=dict)  # name of a record -> its line
    holder: tuple[str, ...] = ()
    broken: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def script(self, text: str, args: list[str]) -> tuple[int, str]:
        """The exit code and output of a script that came by standard input."""
        time.sleep(self.delays.trip)
        if PROBE in text:
            time.sleep(self.delays.probe)
            return 0, _probe().replace("TOK ", f"{args[0]} ").replace("NOW", f"{time.time():.0f}")
        if PROGRAM in text and args[0] == "look":
            return 0, self.held()
        if STATE in text:
            return 0, "/var/lib/fleet\n"
        if VRAM in text:
            used = TOTAL // 2 if any(one.status == "running" for one in self.containers.values()) else IDLE
            return 0, "".join(f"{minor} {used} {TOTAL}\n" for minor in GPUS)
        if APPEND in text:
            self.audit += args[1:]
            return 0, "/var/lib/fleet/audit.jsonl\n"
        if READ_ALL in text:
            return 0, "".join(f"{line}}}\n" for line in self.audit)
        if LEAVE_SERVED in text:
            self.served.update(PUT.findall(text))
            return 0, ""
        if READ_SERVED in text:
            return 0, "".join(self.served.values())
        return self.refuse(text)

    def refuse(self, text: str) -> tuple[int, str]:
        """Whatever a controller asks and nobody simulates has to be seen."""
        with self.lock:
            self.unknown.append(text[:200])
        return 127, f"not simulated: {shlex.quote(text[:100])}\n"

    # Its lock

    def take(self, words: tuple[str, ...]) -> tuple[str, ...] | None:
        """Whoever comes first becomes the holder, by these words."""
        with self.lock:
            if self.holder:
                return None
            self.holder = (*words, f"uptime={time.monotonic():.0f}")
            return self.holder

    def held(self) -> str:
        """What the holder's program says of the lock."""
        words = self.holder
        said = ["busy" if words else "free", "inode 1:1", f"uptime {time.monotonic():.0f}"]
        if words:
            said += ["process 10 1 (fleet-lock)", *(f"word {one}" for one in ("fleet-lock", *words))]
            said += ["word inode=1:1"]
        return "".join(f"fleet-lock {line}\n" for line in said)

    # The engine

    def start(self, one: Container) -> None:
        one.status, one.started = "exited" if self.broken else "running", time.time()

    def die(self) -> None:
        """Every container ends, as if its vLLM had crashed."""
        for one in tuple(self.containers.values()):
            one.status = "exited"

    def image(self, name: str) -> str:
        """The config digest of an image by ID, name or digest; empty where there is none."""
        return next((found for found, names in self.images.items() if name == found or name in names), "")

    def described(self, config: str) -> SimulatedImage:
        return next(one for one in self.catalogue.values() if one.config == config)

    def container(self, name: str) -> Container | None:
        return next((one for one in self.containers.values() if name in (one.id, one.name)), None)

    def create(self, name: str, wish: dict[str, Any]) -> Container | None:
        """None where there is no such image."""
        config = self.image(wish["Image"])
        if not config:
            return None
        made = Container(hashlib.sha256(f"{self.name} {name} {time.time()}".encode()).hexdigest(), name, config, wish)
        self.containers[made.id] = made
        return made

    def serves(self, address: str, port: int) -> bool:
        """Does a vLLM listen there? It does not before the model is loaded, nor elsewhere than where it was told to."""
        return any(
            (one.port, one.bound) == (port, address) and one.ready(self.delays.start)
            for one in tuple(self.containers.values())
        )

    def answers(self) -> bool:
        return any(one.ready(self.delays.start) for one in tuple(self.containers.values()))


def stamp(seconds: float) -> str:
    """As an engine writes a time."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z"


def _mount(wish: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Type": wish["Type"],
        "Name": wish["Source"],
        "Source": wish["Source"],
        "Destination": wish["Target"],
        "RW": not wish.get("ReadOnly"),
    }


@cache
def _container() -> dict[str, Any]:
    """What an engine says of a container beside what was asked for."""
    found: dict[str, Any] = json.loads((DATA / "inspect/engine-26.1-classic.json").read_text(encoding="utf-8"))
    return dict(found["container"])


@cache
def _probe() -> str:
    lines = (DATA / "probe/live-mi300x8.txt").read_text(encoding="utf-8").split("\n")
    lines[lines.index("TOK time") + 1] = "NOW"
    return "\n".join(lines)
