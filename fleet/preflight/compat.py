"""Does an image's ROCm run on this kernel driver? Data: compat.yaml. Unknown is an answer of its own."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from fleet.packaged import table

Answer = Literal["supported", "contradicted", "unknown"]


@cache
def _table() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = table("fleet.preflight", "compat.yaml")
    return loaded


def driver_line(version: str) -> str | None:
    """The driver release (`6.4`, `30.10`) of a module version.

    Forms: 6.12.12, 6.14.14-2204008.24.04 and, from 31.40 on, 6.19.14.31400000 with the release in its fourth field.
    """
    match = re.match(r"(\d+\.\d+\.\d+)(?:\.(\d{8}))?", version)
    if match is None:
        return None
    if match[2]:
        return f"{int(match[2][:2])}.{match[2][2:4]}"
    return next((str(row["line"]) for row in _table()["drivers"] if row["module"] == match[1]), None)


def window(version: str, rocm: str) -> Answer:
    """Whether the driver with this module version is documented to carry this ROCm (`7.2`, `7.2.3`)."""
    line, minor = driver_line(version), minor_of(rocm)
    row = next((row for row in _table()["drivers"] if row["line"] == line), None)
    if row is None or minor is None:
        return "unknown"
    if minor in row["rocm"]:
        return "supported"
    if row.get("partial") or minor in row.get("maybe", ()) or minor not in _table()["judged"]:
        return "unknown"
    return "contradicted"


def listed(version: str) -> tuple[str, ...]:
    """The ROCm releases documented for a driver, for people."""
    line = driver_line(version)
    return next((tuple(row["rocm"]) for row in _table()["drivers"] if row["line"] == line), ())


def minor_of(rocm: str) -> str | None:
    """`7.2.3-complete` -> `7.2`."""
    match = re.match(r"(\d+)\.(\d+)", rocm)
    return f"{match[1]}.{match[2]}" if match else None


def below_minimum(rocm: str, gfx: tuple[str, ...]) -> str:
    """Why this ROCm is too old for vLLM or for one of these targets; empty when it is not."""
    minor = minor_of(rocm)
    if minor is None:
        return ""
    for subject in ("vllm", *gfx):
        least = _table()["minimum"].get(subject)
        if least and _key(minor) < _key(least):
            return f"ROCm {rocm} is older than {least}, the oldest for {'vLLM' if subject == 'vllm' else subject}"
    return ""


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
