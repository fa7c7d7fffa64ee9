"""What a GPU's DRM device says of its health and its firmware: error counters, retired pages, temperature, power. Pure.

`files` maps a path below the device's directory to its text. Sources: Linux' amdgpu RAS and thermal documents, and
amdgpu_ucode.c for fw_version.
"""

import re
from collections.abc import Mapping

from fleet.facts.words import integer, natural

_TEMPERATURE = re.compile(r"hwmon/[^/]+/temp\d+_input")


def ras(files: Mapping[str, str]) -> Mapping[str, Mapping[str, int]] | None:
    """Error counters by block; "Query currently inaccessible" leaves the block out. None when no block could be read."""
    blocks = {}
    for path, text in files.items():
        if path.startswith("ras/") and path.endswith("_err_count"):
            pairs = re.findall(r"^(ue|ce|de):\s*(\d+)\s*$", text, re.MULTILINE)
            counters = {key: count for key, value in pairs if (count := natural(value)) is not None}
            if counters:
                blocks[path[4 : -len("_err_count")]] = counters
    return blocks or None


def bad_pages(files: Mapping[str, str]) -> int | None:
    text = files.get("ras/gpu_vram_bad_pages")
    if text is None:
        return None
    return len(re.findall(r"^0x[0-9a-f]+ : 0x[0-9a-f]+ : [RPF]\s*$", text, re.MULTILINE))


def firmware(files: Mapping[str, str]) -> Mapping[str, str] | None:
    """Versions of what the driver loaded, by its names, and of the VBIOS. None where nothing of it could be read.

    The driver shows a file for everything that any card has; what this one has not is zero there.
    """
    found = {}
    for path, text in files.items():
        name = path.removeprefix("fw_version/").removesuffix("_fw_version")
        if path.startswith("fw_version/") and natural(text, 16):
            found[name] = text.strip()
    if vbios := files.get("vbios_version"):
        found["vbios"] = vbios
    return dict(sorted(found.items())) or None


def temperature(files: Mapping[str, str]) -> tuple[float | None, float | None]:
    """The sensor that is nearest to its critical mark, in degrees Celsius."""
    found: list[tuple[float, float | None]] = []
    for path, text in files.items():
        value = integer(text) if path.startswith("hwmon/") and _TEMPERATURE.fullmatch(path) else None
        if value is not None:
            critical = integer(files.get(path.replace("_input", "_crit"), ""))
            found.append((value / 1000, critical / 1000 if critical else None))
    if not found:
        return None, None
    return max(found, key=lambda pair: pair[0] - (pair[1] or 1000.0))


def micro(files: Mapping[str, str], name: str) -> float | None:
    value = next(
        (natural(text) for path, text in files.items() if path.startswith("hwmon/") and path.endswith(name)), None
    )
    return value / 1e6 if value is not None else None
