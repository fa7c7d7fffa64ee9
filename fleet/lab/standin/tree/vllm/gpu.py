"""The devices, opened as ROCm opens them and held while the server lives."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from . import log


class GpuError(Exception):
    """The exception with which torch ends: `RuntimeError: …` as it would be printed."""


def render_nodes(dev: Path) -> list[Path]:
    """In HIP's order, which is that of the render minors."""
    found = [path for path in (dev / "dri").glob("renderD*") if path.name.removeprefix("renderD").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("renderD")))


def visible(nodes: list[Path], environment: Mapping[str, str]) -> list[Path]:
    """What HIP_VISIBLE_DEVICES leaves. An index that does not exist ends the list, as it does in HIP."""
    mask = environment.get("HIP_VISIBLE_DEVICES")
    if mask is None:
        return nodes
    found: list[Path] = []
    for word in mask.split(","):
        if not re.fullmatch(r"\s*\d+\s*", word) or int(word) >= len(nodes):
            break
        found.append(nodes[int(word)])
    return found


def open_devices(count: int, dev: Path, environment: Mapping[str, str]) -> list[int]:
    """Open /dev/kfd and the first `count` visible render nodes; the file descriptors stay with the caller."""
    try:
        held = [os.open(dev / "kfd", os.O_RDWR | os.O_CLOEXEC)]
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise GpuError("RuntimeError: No HIP GPUs are available") from error
        log.raw(f"Unable to open /dev/kfd read-write: {error.strerror}")
        log.raw("Failed to get user name to check for video group membership")
        raise GpuError("RuntimeError: No HIP GPUs are available") from error
    nodes = visible(render_nodes(dev), environment)
    if not nodes:
        raise GpuError("RuntimeError: No HIP GPUs are available")
    if count > len(nodes):
        raise GpuError("RuntimeError: HIP error: invalid device ordinal")
    for node in nodes[:count]:
        try:
            held.append(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            log.raw(f"amdgpu: failed to open {node}: {error.strerror}")
            raise GpuError("RuntimeError: HSA_STATUS_ERROR_OUT_OF_RESOURCES: hsa_init failed") from error
    return held
