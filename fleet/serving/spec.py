"""What a replica's container must be, as one frozen value, and its way into the Docker API. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from fleet.errors import FleetError
from fleet.inventory.settings import Service
from fleet.serving import command, environment, secrets
from fleet.serving.placement import Replica

SCHEMA = "1"
LABEL = "io.fleet."
DRI = "/dev/dri"


@dataclass(frozen=True)
class ImageIdentity:
    """The release to run, by every name an engine may know it, with the parts of its config that we build on."""

    reference: str  # NAME:RELEASE, the local name that containers are created from
    release: str
    config_digest: str
    manifest_digest: str = ""
    diff_ids: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Ground:
    """What of a host a container depends on. `gids` are the numeric owners of /dev/kfd and the render nodes."""

    models_dir: str
    state_dir: str
    gids: tuple[int, ...]


@dataclass(frozen=True)
class Volume:
    """A mount: `source` is a path on the host (kind bind) or a volume's name (kind volume)."""

    kind: str
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class ContainerSpec:
    name: str
    image: ImageIdentity
    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    gids: tuple[int, ...]
    volumes: tuple[Volume, ...]
    tmpfs: tuple[tuple[str, str], ...]
    ulimits: tuple[tuple[str, int], ...]
    network: str
    ipc: str
    shm_bytes: int  # 0 = the engine's default
    port: int
    published: bool
    security: tuple[str, ...]
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    read_only: bool
    pids_limit: int  # 0 = none
    restart: str
    stop_timeout: int
    log: tuple[tuple[str, str], ...]
    service: str
    replica: int
    secrets_file: str = ""

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of everything but the image's other names."""
        value = asdict(self)
        value["image"] = [self.image.reference, self.image.config_digest]
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def labels(self) -> dict[str, str]:
        return {
            f"{LABEL}service": self.service,
            f"{LABEL}replica": str(self.replica),
            f"{LABEL}release": self.image.release,
            f"{LABEL}spec": self.hash,
            f"{LABEL}restart": self.restart,
            f"{LABEL}port": str(self.port),
            f"{LABEL}schema": SCHEMA,
        }

    def create_kwargs(self, name: str, extra_labels: Mapping[str, str]) -> dict[str, Any]:
        """For docker-py's low-level create_container, except host_config."""
        return {
            "image": self.image.reference,
            "name": name,
            "command": list(self.arguments),
            "entrypoint": list(self.entrypoint) if self.entrypoint is not None else None,
            "environment": dict(self.env),
            "labels": {**self.labels, **extra_labels},
            "ports": [self.port] if self.published else None,
            "stop_timeout": self.stop_timeout,
            "use_config_proxy": False,
        }

    def host_config_kwargs(self, restart: str) -> dict[str, Any]:
        """For docker-py's low-level create_host_config. `restart` is "no" until the container has proved itself."""
        return {
            "devices": [f"{device}:{device}:rwm" for device in self.devices],
            "group_add": [str(gid) for gid in self.gids],
            "mounts": [
                {"Type": v.kind, "Source": v.source, "Target": v.target, "ReadOnly": v.read_only} for v in self.volumes
            ],
            "tmpfs": dict(self.tmpfs),
            "ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in self.ulimits],
            "network_mode": self.network,
            "ipc_mode": self.ipc or None,
            "shm_size": self.shm_bytes or None,
            "port_bindings": {self.port: self.port} if self.published else None,
            "security_opt": list(self.security),
            "cap_add": list(self.cap_add),
            "cap_drop": list(self.cap_drop),
            "read_only": self.read_only,
            "pids_limit": self.pids_limit or None,
            "init": True,
            "restart_policy": {"Name": restart},
            "log_config": {"Type": "json-file", "Config": dict(self.log)},
        }


@dataclass(frozen=True)
class Built:
    """A spec, what is worth saying about it, and what forbids it."""

    spec: ContainerSpec
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def build(service: Service, replica: Replica, ground: Ground, image: ImageIdentity, *, secrets_file: str = "") -> Built:
    """The container of one replica. `secrets_file` is the host's path when the service has secrets."""
    gfx = replica.gpus[0].gfx if replica.gpus else ""
    env = environment.environment(gfx, len(replica.gpus), service.env, hardened=service.hardened)
    fitted = command.fit(image.entrypoint, command.serve_arguments(service, replica))
    entrypoint, arguments = fitted.entrypoint, fitted.arguments
    volumes = [
        Volume("bind", ground.models_dir, command.MODELS, read_only=True),
        Volume("volume", cache_volume(image.release, gfx, service.model), environment.CACHE_ROOT, read_only=False),
        *(_volume(text) for text in service.volumes),
    ]
    if service.secrets:
        entrypoint, arguments = secrets.wrap(fitted.whole)
        volumes.append(Volume("bind", secrets_file, secrets.INSIDE, read_only=True))
    hard = service.hardened
    # Without DAC_OVERRIDE root in the container cannot read a secrets file that belongs to the login user.
    kept = ("DAC_OVERRIDE",) if service.secrets else ()
    spec = ContainerSpec(
        name=replica.name,
        image=image,
        entrypoint=entrypoint,
        arguments=arguments,
        env=tuple(env.items()),
        devices=devices(replica),
        gids=tuple(sorted(set(ground.gids))),
        volumes=tuple(volumes),
        tmpfs=(("/tmp", "rw,exec,nosuid,nodev,mode=1777"),) if hard else (),  # noqa: S108  inside the container
        ulimits=tuple(sorted(service.ulimits.items())),
        network=service.network,
        ipc=service.ipc,
        shm_bytes=size_in_bytes(service.shm_size),
        port=replica.port,
        published=service.network not in ("host", "none") and not service.network.startswith("container:"),
        security=("no-new-privileges",) if hard else ("seccomp=unconfined",),
        cap_add=kept if hard else ("SYS_PTRACE",),
        cap_drop=("ALL",) if hard else (),
        read_only=hard,
        pids_limit=32768 if hard else 0,  # counts threads: eight workers with their OpenMP pools stay far below
        restart=service.restart,
        stop_timeout=max(int(service.stop_grace), 1),
        log=(("max-file", "5"), ("max-size", "100m")),
        service=service.name,
        replica=replica.number,
        secrets_file=secrets_file if service.secrets else "",
    )
    problems = (*environment.problems(gfx, service.env), *command.problems(service))
    problems += tuple(
        f"{name} stands in env and in secrets: keep the secret" for name in service.secrets if name in service.env
    )
    problems += _unreachable(service, published=spec.published)
    return Built(spec, (fitted.note,) if fitted.note else (), tuple(f"{replica.name}: {text}" for text in problems))


def _unreachable(service: Service, *, published: bool) -> tuple[str, ...]:
    """Networks on which nobody could ask the service anything."""
    if service.network == "none" or service.network.startswith("container:"):
        return (f"network {service.network} leaves no port to reach: take host, bridge or a network's name",)
    if published and service.host not in ("0.0.0.0", "::", ""):  # noqa: S104  compared with, not bound to
        return (f"host {service.host} is inside the container's own network: leave `host` out, or take network host",)
    return ()


def devices(replica: Replica) -> tuple[str, ...]:
    """/dev/kfd and the replica's own render nodes; all of /dev/dri only for a replica that owns every GPU.

    The device cgroup then hides the other GPUs from KFD, so no *_VISIBLE_DEVICES mask is needed (FACTS of vLLM and
    Ray disagree about masks; nobody disagrees about devices).
    """
    if replica.whole_host:
        return ("/dev/kfd", DRI)
    return ("/dev/kfd", *(f"{DRI}/renderD{gpu.render_minor}" for gpu in replica.gpus))


def cache_volume(release: str, gfx: str, model: str) -> str:
    """One volume per release, GPU kind and model: compiled kernels fit nothing else."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"fleet-cache-{release[:24]}-{gfx}-{PurePosixPath(model).name}")
    exact = hashlib.sha256(f"{release}\0{gfx}\0{model}".encode()).hexdigest()[:8]
    return f"{readable[:80]}-{exact}"


def size_in_bytes(text: str) -> int:
    """`16g`, `512m`, `64k` or plain bytes; empty is 0. Raises FleetError."""
    found = re.fullmatch(r"\s*(\d+)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if not text:
        return 0
    if not found:
        raise FleetError(f"{text!r} is not a size", hint="write it like 16g or 512m")
    factor: int = 1024 ** " kmgt".index(found[2].lower() or " ")
    return int(found[1]) * factor


def _volume(text: str) -> Volume:
    """`SOURCE:TARGET[:ro]`, as docker run -v takes it."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not target.startswith("/"):
        raise FleetError(f"volume {text!r} is not SOURCE:TARGET[:ro]")
    kind = "bind" if source.startswith("/") else "volume"
    return Volume(kind, source, target, read_only="ro" in options.split(","))


def gpu_minors(paths: Sequence[str]) -> frozenset[int] | None:
    """The render minors among device paths; None means every GPU (all of /dev/dri)."""
    if any(PurePosixPath(path) == PurePosixPath(DRI) for path in paths):
        return None
    return frozenset(int(found[1]) for path in paths if (found := re.fullmatch(rf"{DRI}/renderD(\d+)", path)))
