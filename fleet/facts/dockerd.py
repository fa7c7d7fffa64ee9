"""What the docker CLI said of its engine and of the running containers. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.facts.frames import Frames
from fleet.facts.model import Container, Docker, EngineConfig
from fleet.facts.words import json_object, mapping, natural, redact, sequence, word


def docker(frames: Frames) -> Docker:
    """The engine. Stopped and forbidden are told apart by the socket, not by the wording of an error."""
    where = frames.lines("docker")
    config = _config(frames.lines("engine_config"))
    if where is None:
        return Docker(config=config)
    if not where:
        return Docker(state="no-cli", error="there is no `docker` in PATH", config=config)
    version, info = _object(frames.lines("docker.version")), _object(frames.lines("docker.info"))
    client, server = mapping(version.get("Client")), mapping(version.get("Server"))
    running = bool(server) and bool(word(info.get("Driver")))
    security = tuple(str(option) for option in sequence(info.get("SecurityOptions")))
    return Docker(
        state="running" if running else _why_not(frames),
        error="" if running else _error(frames),
        cli_version=word(client.get("Version")),
        version=word(server.get("Version")) or word(info.get("ServerVersion")),
        api_version=word(server.get("ApiVersion")),
        storage_driver=word(info.get("Driver")),
        image_store=image_store(info) if running else None,
        root_dir=word(info.get("DockerRootDir")),
        rootless=any("rootless" in option for option in security) if running else None,
        desktop="Docker Desktop" in str(info.get("OperatingSystem", "")) if running else None,
        cgroup_version=natural(str(info.get("CgroupVersion", ""))),
        cgroup_driver=word(info.get("CgroupDriver")),
        security=security,
        buildx=_buildx(info),
        containers=_containers(frames.lines("docker.containers")) if running else None,
        config=config,
        insecure=_insecure(info),
    )


def _insecure(info: Mapping[str, Any]) -> tuple[str, ...] | None:
    config = info.get("RegistryConfig")
    if not isinstance(config, Mapping):
        return None
    hosts = (name for name, one in mapping(config.get("IndexConfigs")).items() if mapping(one).get("Secure") is False)
    return tuple(dict.fromkeys((*hosts, *map(str, sequence(config.get("InsecureRegistryCIDRs"))))))


def _config(lines: Sequence[str] | None) -> EngineConfig | None:
    if lines is None:
        return None
    found = (re.fullmatch(r'"([a-z-]+)" *: *"([^"]*)"', line) for line in lines)
    values = {match[1]: match[2] for match in found if match}
    return EngineConfig(
        log_driver=values.get("log-driver", ""),
        log_max_size=values.get("max-size", ""),
        flags=tuple(dict.fromkeys(line for line in lines if line.startswith("--"))),
        cas=tuple(dict.fromkeys(line[3:] for line in lines if line.startswith("ca "))),
    )


def _why_not(frames: Frames) -> str:
    present = frames.lines("present") or ()
    return "forbidden" if "docker.sock" in present and "docker.sock:writable" not in present else "stopped"


def _error(frames: Frames) -> str:
    lines = (*(frames.lines("docker.info") or ()), *(frames.lines("docker.version") or ()))
    return next((line.strip() for line in lines if line.strip() and not line.startswith("{")), "no answer")[:500]


def _object(lines: Sequence[str] | None) -> dict[str, Any]:
    """The one JSON object among a tool's lines; its warnings and errors stand around it."""
    return next((value for line in lines or () if line.startswith("{") and (value := json_object(line))), {})


def image_store(info: Mapping[str, Any]) -> str:
    """`classic` or `containerd`, from `GET /info`."""
    status = sequence(info.get("DriverStatus"))
    snapshotter = any("io.containerd.snapshotter" in str(value) for pair in status for value in sequence(pair))
    return "containerd" if snapshotter else "classic"


def _buildx(info: Mapping[str, Any]) -> str | None:
    plugins = map(mapping, sequence(mapping(info.get("ClientInfo")).get("Plugins")))
    return next((str(p.get("Version") or "?") for p in plugins if p.get("Name") == "buildx"), None)


def _containers(lines: Sequence[str] | None) -> tuple[Container, ...] | None:
    if lines is None:
        return None
    return tuple(_container(value) for line in lines if (value := _object([line])))


def _container(value: Mapping[str, Any]) -> Container:
    argv = [*sequence(value.get("entrypoint")), *sequence(value.get("cmd"))]
    bindings = (mapping(one) for some in mapping(value.get("ports")).values() for one in sequence(some))
    ports = {natural(str(binding.get("HostPort", ""))) for binding in bindings}
    devices = (mapping(device).get("PathOnHost", "") for device in sequence(value.get("devices")))
    return Container(
        id=str(value.get("id", "")),
        name=str(value.get("name", "")).removeprefix("/"),
        image=str(value.get("image", "")),
        image_id=str(value.get("image_id", "")),
        pid=natural(str(value.get("pid") or 0)) or 0,
        command=redact([str(text) for text in argv]),
        service=str(value.get("service") or mapping(value.get("labels")).get("io.fleet.service", "")),
        network=str(value.get("network", "")),
        ports=tuple(sorted(port for port in ports if port is not None)),
        devices=tuple(map(str, devices)),
        privileged=bool(value.get("privileged")),
    )
