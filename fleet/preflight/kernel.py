"""Names for lines of the kernel's log. Data: kernel_log.yaml."""

import re
from functools import cache

from fleet.packaged import table


@cache
def _signatures() -> tuple[tuple[re.Pattern[str], str], ...]:
    rows = table("fleet.preflight", "kernel_log.yaml")["signatures"]
    return tuple((re.compile(row["pattern"]), str(row["means"])) for row in rows)


def meaning(line: str) -> str:
    """What a line tells, by the first signature that fits."""
    return next((means for pattern, means in _signatures() if pattern.search(line)), "GPU trouble")
