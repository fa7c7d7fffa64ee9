"""What the docker CLI said of its engine and of the running containers. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.facts.frames import Frames
from fleet.facts.model import Container, Docker
from fleet.facts.words import integer, redact


def docker(frames: Frames) -> Docker:
    """The engine. Stopped and forbidden are told apart by the socket, not by the wording of an error."""
    where = frames.lines("docker")
    if where is None:
        return Docker()
    if not where:
        return Docker(state="no-cli", error="there is no `docker` in PATH")
    version, info = _object(frames.lines("docker.version")), _object(frames.lines("docker.info"))
    client, server = version.get("Client") or {}, version.get("Server") or {}
    running = bool(server) and bool(info.get("Driver"))
    security = tuple(str(option) for option in info.get("SecurityOptions") or ())
    return Docker(
        state="running" if running else _why_not(frames),
        error="" if running else _error(frames),
        cli_version=client.get("Version"),
        version=server.get("Version") or info.get("ServerVersion") or None,
        api_version=server.get("ApiVersion"),
        storage_driver=info.get("Driver") or None,
        image_store=_image_store(info) if running else None,
        root_dir=info.get("DockerRootDir") or None,
        rootless=any("rootless" in option for option in security) if running else None,
        desktop="Docker Desktop" in str(info.get("OperatingSystem", "")) if running else None,
        cgroup_version=integer(str(info.get("CgroupVersion", ""))),
        cgroup_driver=info.get("CgroupDriver") or None,
        security=security,
        buildx=_buildx(info),
        containers=_containers(frames.lines("docker.containers")) if running else None,
    )


def _why_not(frames: Frames) -> str:
    present = frames.lines("present") or ()
    return "forbidden" if "docker.sock" in present and "docker.sock:writable" not in present else "stopped"


def _error(frames: Frames) -> str:
    lines = (*(frames.lines("docker.info") or ()), *(frames.lines("docker.version") or ()))
    return next((line.strip() for line in lines if line.strip() and not line.startswith("{")), "no answer")[:500]


def _object(lines: Sequence[str] | None) -> dict[str, Any]:
    """The one JSON object among a tool's lines; its warnings and errors stand around it."""
    for line in lines or ():
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
    return {}


def _image_store(info: Mapping[str, Any]) -> str:
    status = info.get("DriverStatus") or ()
    snapshotter = any("io.containerd.snapshotter" in str(value) for pair in status for value in pair)
    return "containerd" if snapshotter else "classic"


def _buildx(info: Mapping[str, Any]) -> str | None:
    plugins = (info.get("ClientInfo") or {}).get("Plugins") or ()
    return next((str(p.get("Version") or "?") for p in plugins if p.get("Name") == "buildx"), None)


def _containers(lines: Sequence[str] | None) -> tuple[Container, ...] | None:
    if lines is None:
        return None
    return tuple(_container(value) for line in lines if (value := _object([line])))


def _container(value: Mapping[str, Any]) -> Container:
    words = [*(value.get("entrypoint") or ()), *(value.get("cmd") or ())]
    ports = {
        int(binding["HostPort"])
        for bindings in (value.get("ports") or {}).values()
        for binding in bindings or ()
        if str(binding.get("HostPort", "")).isdigit()
    }
    return Container(
        id=str(value.get("id", "")),
        name=str(value.get("name", "")).removeprefix("/"),
        image=str(value.get("image", "")),
        image_id=str(value.get("image_id", "")),
        pid=int(value.get("pid") or 0),
        command=redact([str(word) for word in words]),
        labels={str(key): str(text) for key, text in (value.get("labels") or {}).items()},
        network=str(value.get("network", "")),
        ports=tuple(sorted(ports)),
        devices=tuple(str(device.get("PathOnHost", "")) for device in value.get("devices") or ()),
        privileged=bool(value.get("privileged")),
    )
