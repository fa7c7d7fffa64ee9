"""The container engine."""

import ipaddress
import json
import re
from collections.abc import Iterable

from fleet.facts.model import Facts
from fleet.preflight.needs import Needs
from fleet.preflight.registry import Blind, Result, Told, checks

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OLDEST = (20, 10)
DRIVERS = ("overlay2", "overlayfs", "fuse-overlayfs", "btrfs", "zfs")


@checks("docker_cli")
def docker_cli(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.state is None:
        return Blind("whether docker is there")
    return facts.docker.error if facts.docker.state == "no-cli" else None


@checks("docker_running")
def docker_running(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.state is None:
        return Blind("the engine")
    return facts.docker.error or "no answer" if facts.docker.state == "stopped" else None


@checks("docker_permission")
def docker_permission(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.state is None:
        return Blind("the engine")
    if facts.docker.state != "forbidden":
        return None
    user = facts.user
    return f"user {user.name} (groups {', '.join(user.groups) or 'unknown'}) may not use docker's socket"


@checks("docker_version")
def docker_version(facts: Facts, _needs: Needs) -> Result:
    match = re.match(r"(\d+)\.(\d+)", facts.docker.version or "")
    if match is None:
        return Blind("the engine's version")
    old = (int(match[1]), int(match[2])) < OLDEST
    return f"the engine is {facts.docker.version}, API {facts.docker.api_version}" if old else None


@checks("docker_rootless")
def docker_rootless(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.rootless is None:
        return Blind("the engine's security options")
    return "the engine runs rootless" if facts.docker.rootless else None


@checks("docker_userns")
def docker_userns(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.rootless is None:
        return Blind("the engine's security options")
    return "the engine maps user namespaces" if any("userns" in option for option in facts.docker.security) else None


@checks("docker_desktop")
def docker_desktop(facts: Facts, _needs: Needs) -> Result:
    if facts.docker.desktop is None:
        return Blind("the engine's operating system")
    return "the engine is Docker Desktop's virtual machine" if facts.docker.desktop else None


@checks("docker_logs")
def docker_logs(facts: Facts, _needs: Needs) -> Result:
    config = facts.docker.config
    if config is None or "--config-file" in config.flags:
        return Blind("/etc/docker/daemon.json" if config is None else "the file that dockerd's --config-file names")
    if config.log_driver not in ("", "json-file") or config.log_max_size or "--log-opt" in config.flags:
        return None
    return "/etc/docker/daemon.json sets no max-size for logs"


@checks("registry_ca")
def registry_ca(facts: Facts, needs: Needs) -> Result:
    if not needs.registries:
        return None
    if facts.docker.config is None:
        return Blind("/etc/docker/certs.d")
    missing = [name for name in needs.registries if name not in facts.docker.config.cas]
    return f"no CA for {', '.join(missing)} in /etc/docker/certs.d" if missing else None


@checks("registry_insecure")
def registry_insecure(facts: Facts, needs: Needs) -> Result:
    brought = needs.image is not None and not needs.image.size_bytes
    if not needs.insecure or brought:
        return None  # what is there already is not pulled
    allowed = facts.docker.insecure
    if allowed is None:
        return Blind("the registries that the engine asks without TLS (docker info)")
    networks = [found for one in allowed if (found := _network(one)) is not None]
    missing = [name for name in needs.insecure if name not in allowed and not _within(name, networks)]
    if not missing:
        return None
    lines = json.dumps({"insecure-registries": missing})
    return Told(
        f"the engine asks {', '.join(missing)} by TLS alone, and fleet.registry says plain HTTP",
        f"give the registry TLS; or have {lines} in /etc/docker/daemon.json, beside what is there, and "
        "`systemctl reload docker`, which leaves containers alone",
    )


def _within(registry: str, networks: Iterable[Network]) -> bool:
    """By its address; what a name stands for only the host's engine knows, and a network for names is rare."""
    host = registry.rpartition(":")[0] if re.search(r":\d+$", registry) else registry
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        return False
    return any(address in network for network in networks)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@checks("storage_driver")
def storage_driver(facts: Facts, _needs: Needs) -> Result:
    word = facts.docker.storage_driver
    if word is None:
        return Blind("the engine's storage driver")
    return None if word in DRIVERS else f"the storage driver is {word}"
