"""The catalogue of known failures, as serving asks it. Pure."""

from fleet import signatures
from fleet.serving.startup import UMBRELLA
from fleet.serving.wait import Diagnosis


def diagnose(text: str, where: str) -> Diagnosis | None:
    """What `text` shows at `where` (container, run): the first fatal entry that is more than an umbrella, if any."""
    hits = signatures.match(text, where)
    if not hits:
        return None
    best = min(hits, key=lambda hit: (not hit.fatal, bool(UMBRELLA.search(hit.example))))
    return Diagnosis(best.id, best.cause, best.fix, best.fatal)
