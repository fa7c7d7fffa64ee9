"""What a container really is: Docker's inspect JSON, from 20.10 to 29 and both image stores, as one frozen value. Pure.

`predict` makes the same value from a spec, so plan, simulation and reality are compared in one form.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.serving.address import address_in
from fleet.serving.spec import LABEL, SCHEMA, ContainerSpec, Volume, gpu_minors

Json = Mapping[str, Any]
CANDIDATE = "-new"  # a container carries this behind its name until it has answered
KEPT = "-previous"  # and this, stopped, once the next release has answered in its place


@dataclass(frozen=True)
class Held:
    """A container that a candidate replaces: what to give back to it if the candidate fails."""

    name: str
    restart: str
    running: bool


@dataclass(frozen=True)
class Inspection:
    name: str
    id: str
    state: str  # created | running | paused | restarting | exited | dead
    restart: str
    labels: Mapping[str, str]
    image_id: str
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    devices: tuple[str, ...]
    gids: tuple[str, ...]
    volumes: tuple[Volume, ...]
    tmpfs: Mapping[str, str]
    ulimits: Mapping[str, int]
    network: str
    ipc: str
    shm_bytes: int
    ports: frozenset[int]
    security: frozenset[str]
    cap_add: frozenset[str]
    cap_drop: frozenset[str]
    read_only: bool
    privileged: bool
    pids_limit: int
    init: bool
    stop_timeout: int
    log: tuple[str, Mapping[str, str]]
    exit_code: int = 0
    error: str = ""
    restart_count: int = 0
    started_at: str = ""
    health: str = ""  # the image's own HEALTHCHECK, if any
    image_env: Mapping[str, str] | None = None  # None: the engine does not have the image any more
    image_entrypoint: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    image_volumes: tuple[str, ...] = ()
    heard: frozenset[int] = frozenset()  # ports of the host on which its processes really listen; not Docker's to say

    @property
    def owned(self) -> bool:
        return f"{LABEL}service" in self.labels

    @property
    def alive(self) -> bool:
        return self.state in ("running", "restarting", "paused")

    @property
    def candidate(self) -> bool:
        return self.owned and self.name.endswith(CANDIDATE)

    @property
    def kept(self) -> bool:
        """Is it there for a roll-back only?"""
        return self.owned and self.name.endswith(KEPT)

    @property
    def service(self) -> str:
        return self.labels.get(f"{LABEL}service", "")

    @property
    def newer(self) -> str:
        """The schema of labels that a newer fleet wrote, or empty."""
        schema = self.labels.get(f"{LABEL}schema", SCHEMA)
        return schema if self.owned and schema != SCHEMA else ""

    @property
    def policy(self) -> str:
        """The restart policy it has when it serves: a held one is set to "no" until the new one has answered."""
        return self.labels.get(f"{LABEL}restart", self.restart) if self.owned else self.restart

    @property
    def port(self) -> int:
        text = self.labels.get(f"{LABEL}port", "")
        return int(text) if text.isdigit() else 0

    @property
    def address(self) -> str:
        """Where its host reaches it."""
        return address_in((*self.entrypoint, *self.arguments), self.network)

    @property
    def gpus(self) -> frozenset[int] | None:
        """Render minors it may use; None is every GPU of the host."""
        return None if self.privileged else gpu_minors(self.devices)

    @property
    def replaces(self) -> tuple[Held, ...]:
        try:
            return tuple(Held(*entry) for entry in json.loads(self.labels.get(f"{LABEL}replaces", "[]")))
        except (ValueError, TypeError):
            return ()

    @property
    def secrets_file(self) -> str:
        return next((v.source for v in self.volumes if v.target == "/run/fleet/secrets"), "")

    @property
    def command_line(self) -> str:
        return " ".join((*self.entrypoint, *self.arguments))


def replaces_label(held: tuple[Held, ...]) -> dict[str, str]:
    if not held:
        return {}
    return {f"{LABEL}replaces": json.dumps([[one.name, one.restart, one.running] for one in held])}


def parse(container: Json, image: Json | None = None) -> Inspection:
    """From `GET /containers/ID/json` and `GET /images/ID/json`; absent, null and empty fields mean the same."""
    config, host, state = (container.get(part) or {} for part in ("Config", "HostConfig", "State"))
    image_config = (image or {}).get("Config") or {}
    log = host.get("LogConfig") or {}
    published = {int(port.partition("/")[0]) for port in (host.get("PortBindings") or {})}
    bound = {
        int(binding["HostPort"])
        for bindings in (host.get("PortBindings") or {}).values()
        for binding in bindings or ()
        if str(binding.get("HostPort", "")).isdigit()
    }
    return Inspection(
        name=str(container.get("Name", "")).lstrip("/"),
        id=container.get("Id", ""),
        state=state.get("Status", ""),
        exit_code=state.get("ExitCode") or 0,
        error=state.get("Error") or "",
        started_at=state.get("StartedAt") or "",
        health=(state.get("Health") or {}).get("Status", ""),
        restart_count=container.get("RestartCount") or 0,
        restart=(host.get("RestartPolicy") or {}).get("Name") or "no",
        labels=config.get("Labels") or {},
        image_id=container.get("Image", ""),
        env=_env(config.get("Env")),
        entrypoint=_words(config.get("Entrypoint")),
        arguments=_words(config.get("Cmd")),
        devices=tuple(sorted(entry["PathOnHost"] for entry in host.get("Devices") or ())),
        gids=tuple(sorted(host.get("GroupAdd") or ())),
        volumes=tuple(sorted((_mount(m) for m in container.get("Mounts") or ()), key=lambda v: v.target)),
        tmpfs=host.get("Tmpfs") or {},
        ulimits={entry["Name"]: entry.get("Soft", 0) for entry in host.get("Ulimits") or ()},
        network=host.get("NetworkMode") or "",
        ipc=host.get("IpcMode") or "",
        shm_bytes=host.get("ShmSize") or 0,
        ports=frozenset(bound or published),
        security=frozenset(_security(option) for option in host.get("SecurityOpt") or ()),
        cap_add=frozenset(name.removeprefix("CAP_") for name in host.get("CapAdd") or ()),
        cap_drop=frozenset(name.removeprefix("CAP_") for name in host.get("CapDrop") or ()),
        read_only=bool(host.get("ReadonlyRootfs")),
        privileged=bool(host.get("Privileged")),
        pids_limit=max(host.get("PidsLimit") or 0, 0),
        init=bool(host.get("Init")),
        stop_timeout=config.get("StopTimeout") or 0,
        log=(log.get("Type") or "", log.get("Config") or {}),
        image_env=_env(image_config.get("Env")) if image else None,
        image_entrypoint=_words(image_config.get("Entrypoint")),
        diff_ids=tuple(((image or {}).get("RootFS") or {}).get("Layers") or ()),
        image_volumes=tuple(sorted(image_config.get("Volumes") or ())),
    )


def predict(
    spec: ContainerSpec, *, name: str = "", restart: str = "no", held: tuple[Held, ...] = (), state: str = "created"
) -> Inspection:
    """What `parse` is expected to give for a container that was just created from `spec`."""
    image_env = dict(spec.image.env or {})
    return Inspection(
        name=name or spec.name,
        id=f"id-of-{name or spec.name}",
        state=state,
        restart=restart,
        labels={**spec.labels, **replaces_label(held)},
        image_id=spec.image.config_digest,
        env={**image_env, **dict(spec.env)},
        entrypoint=spec.entrypoint if spec.entrypoint is not None else spec.image.entrypoint,
        arguments=spec.arguments,
        devices=tuple(sorted(spec.devices)),
        gids=tuple(sorted(str(gid) for gid in spec.gids)),
        volumes=tuple(sorted(spec.volumes, key=lambda v: v.target)),
        tmpfs=dict(spec.tmpfs),
        ulimits=dict(spec.ulimits),
        network=spec.network,
        ipc=spec.ipc,
        shm_bytes=spec.shm_bytes,
        ports=frozenset({spec.port} if spec.published else ()),
        security=frozenset(spec.security),
        cap_add=frozenset(spec.cap_add),
        cap_drop=frozenset(spec.cap_drop),
        read_only=spec.read_only,
        privileged=False,
        pids_limit=spec.pids_limit,
        init=True,
        stop_timeout=spec.stop_timeout,
        log=("json-file", dict(spec.log)),
        image_env=image_env,
        image_entrypoint=spec.image.entrypoint,
        diff_ids=spec.image.diff_ids,
    )


def listening(container: Inspection) -> frozenset[int]:
    """Ports that it takes on the host: real and published ones, ours by label, a --port of its command on a host network."""
    ports = {*container.ports, *container.heard} | ({container.port} if container.port else set())
    words = [*container.entrypoint, *container.arguments]
    if container.network == "host":
        for before, word in zip(["", *words], words, strict=False):
            text = word if before in ("--port", "-p") else word.removeprefix("--port=") if "--port=" in word else ""
            if text.isdigit():
                ports.add(int(text))
        if not ports and "serve" in words:
            ports.add(8000)  # vLLM's default
    return frozenset(ports)


def overlap(one: frozenset[int] | None, two: frozenset[int] | None) -> bool:
    """Do two containers share a GPU? None is every GPU; no device at all shares nothing."""
    if one is None or two is None:
        return bool(one is None or one) and bool(two is None or two)
    return bool(one & two)


def replica_of(container: Inspection) -> str:
    """The name of the replica that one of our containers is, was, or is to become."""
    name = container.name
    return name.removesuffix(CANDIDATE).removesuffix(KEPT) if container.candidate or container.kept else name


def spec_gpus(spec: ContainerSpec) -> frozenset[int] | None:
    return gpu_minors(spec.devices)


def _mount(mount: Json) -> Volume:
    kind = mount.get("Type", "bind")
    source = mount.get("Name") if kind == "volume" else mount.get("Source")
    return Volume(kind, source or "", mount.get("Destination", ""), read_only=not mount.get("RW", True))


def _env(entries: list[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries or ())}


def _words(value: list[str] | str | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _security(option: str) -> str:
    """Older engines take `:` where newer take `=`, and `no-new-privileges:true` is the same as without `:true`."""
    return option.replace(":", "=", 1).removesuffix("=true")
