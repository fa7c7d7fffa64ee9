"""Names for lines of the kernel's log. Data: kernel_log.yaml."""

import re
from functools import cache
from importlib.resources import files

import yaml


@cache
def _signatures() -> tuple[tuple[re.Pattern[str], str], ...]:
    rows = yaml.safe_load(files("fleet.preflight").joinpath("kernel_log.yaml").read_text("utf-8"))["signatures"]
    return tuple((re.compile(row["pattern"]), str(row["means"])) for row in rows)


def meaning(line: str) -> str:
    """What a line tells, by the first signature that fits."""
    return next((means for pattern, means in _signatures() if pattern.search(line)), "GPU trouble")
