"""Reading a host's real containers, secrets files and VRAM. Changes nothing."""

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
import docker.errors
import requests

from fleet.errors import HostError
from fleet.serving.address import address_in
from fleet.serving.inspection import CANDIDATE, Inspection, parse
from fleet.serving.spec import LABEL
from fleet.shell import STATE_DIR, Shell

STATE = f"""{STATE_DIR}echo "$dir"
for file in "$dir"/secrets/*; do [ -f "$file" ] && sha256sum "$file"; done
for file in "$dir"/drained/*; do [ -f "$file" ] && echo "drained ${{file##*/}}"; done
exit 0
"""
VRAM = """
for dir in /sys/class/drm/renderD*; do
  used=$(cat "$dir/device/mem_info_vram_used" 2>/dev/null) || continue
  total=$(cat "$dir/device/mem_info_vram_total" 2>/dev/null) || continue
  echo "${dir##*renderD} $used $total"
done
exit 0
"""

_images: weakref.WeakKeyDictionary[docker.APIClient, dict[str, Mapping[str, Any]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Observed:
    """`secret_files` maps a path to the sha256 of its content; `state_dir` is where ours are kept on this host.

    `drained` are replicas that were taken out of their router and not put back.
    """

    containers: tuple[Inspection, ...]
    state_dir: str
    secret_files: Mapping[str, str] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()


def observe(session: Shell, client: docker.DockerClient, names: Collection[str] = ()) -> Observed:
    """Our containers in every state, all living ones, and those that have one of `names`."""
    state_dir, files, drained = read_state(session)
    try:
        listed = client.api.containers(all=True)
        wanted = {*names, *(name + CANDIDATE for name in names)}
        chosen = [
            entry["Id"]
            for entry in listed
            if entry.get("State") in ("running", "restarting", "paused")
            or f"{LABEL}service" in (entry.get("Labels") or {})
            or wanted & {name.lstrip("/") for name in entry.get("Names") or ()}
        ]
        found = [one for container in chosen if (one := inspect(client, container)) is not None]
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise HostError(session.host.name, f"the containers could not be read: {error}") from error
    return Observed(tuple(sorted(found, key=lambda one: one.name)), state_dir, files, drained)


def running(session: Shell, client: docker.DockerClient) -> tuple[tuple[str, str, int], ...]:
    """(service, address, port) of each of our running containers, in one request. Raises HostError."""
    try:
        listed = client.api.containers()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise HostError(session.host.name, f"the containers could not be read: {error}") from error
    found = []
    for entry in listed:
        labels, words = entry.get("Labels") or {}, str(entry.get("Command") or "").split()
        service, port = labels.get(f"{LABEL}service", ""), labels.get(f"{LABEL}port", "")
        if entry.get("State") == "running" and service and port.isdigit():
            network = (entry.get("HostConfig") or {}).get("NetworkMode", "")
            found.append((service, address_in(words, network), int(port)))
    return tuple(found)


def inspect(client: docker.DockerClient, container: str) -> Inspection | None:
    """One container with its image, or None when it is gone. An image removed by force is unknown, not an error."""
    try:
        value = client.api.inspect_container(container)
    except docker.errors.NotFound:
        return None
    return parse(value, _image(client, value["Image"]))


def _image(client: docker.DockerClient, digest: str) -> Mapping[str, Any] | None:
    """What an image holds never changes under its digest, so it is asked for once a client: waiting inspects often."""
    known = _images.setdefault(client.api, {})
    if digest not in known:
        try:
            known[digest] = client.images.get(digest).attrs
        except docker.errors.NotFound:
            return None
    return known[digest]


def read_state(session: Shell) -> tuple[str, dict[str, str], frozenset[str]]:
    """Where we keep things on this host, the sha256 of each file of secrets there, and replicas that are drained.

    Root's own place where we are root.
    """
    first, *rest = session.script(STATE, sudo=True).stdout.splitlines()
    files = {path: digest for digest, _, path in (line.partition("  ") for line in rest) if path}
    return first, files, frozenset(line.removeprefix("drained ") for line in rest if line.startswith("drained "))


def read_vram(session: Shell) -> dict[int, tuple[int, int]]:
    """Render minor -> (used, total) in bytes. A partition without counters of its own is left out."""
    lines = (line.split() for line in session.script(VRAM).stdout.splitlines())
    return {int(minor): (int(used), int(total)) for minor, used, total in lines}
