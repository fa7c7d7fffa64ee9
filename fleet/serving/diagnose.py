"""The catalogue of known failures, as serving asks it. Pure."""

import re

from fleet import signatures
from fleet.serving.startup import UMBRELLA
from fleet.serving.wait import Diagnosis

RLIMIT = re.compile(r"error setting rlimits?(?: type (\d+))?", re.IGNORECASE)
RLIMIT_NAMES = {"7": "nofile", "8": "memlock", "6": "nproc", "3": "stack"}  # asm-generic/resource.h


def diagnose(text: str, where: str) -> Diagnosis | None:
    """What `text` shows at `where` (container, run): the first fatal entry that is more than an umbrella, if any."""
    hits = signatures.match(text, where)
    if hits:
        best = min(hits, key=lambda hit: (not hit.fatal, bool(UMBRELLA.search(hit.example))))
        return Diagnosis(best.id, best.cause, best.fix, best.fatal, bool(UMBRELLA.search(best.example)))
    return _limit(text) if where == "run" else None


def _limit(text: str) -> Diagnosis | None:
    """A limit of the service's own `ulimits` that this host's engine may not give."""
    types = [found[1] for found in RLIMIT.finditer(text) if found[1]]
    if not types:
        return None
    name = RLIMIT_NAMES.get(types[-1], f"number {types[-1]}")
    return Diagnosis(
        "rlimit_refused",
        f"The engine may not raise the limit {name}: its own hard limit is lower and it lacks CAP_SYS_RESOURCE",
        f"raise the limit of dockerd (systemctl edit docker: Limit{name.upper()}=infinity), or lower the service's "
        f"ulimits.{name} in the inventory",
    )
