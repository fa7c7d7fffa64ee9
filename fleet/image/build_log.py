"""What a failed `docker build` said: the failing step, its last lines, known signatures. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.signatures import Signature, match

LAST = 15  # lines that are shown


@dataclass(frozen=True)
class BuildFailure:
    """`step` as the builder names it, "" when it failed before any; `reason` is the builder's own last word."""

    step: str
    reason: str
    last: tuple[str, ...]
    signatures: tuple[Signature, ...]

    @property
    def hint(self) -> str:
        """Cause and fix of the first known signature."""
        return f"{self.signatures[0].cause} {self.signatures[0].fix}" if self.signatures else ""


def explain(lines: Sequence[str]) -> BuildFailure:
    """Read BuildKit's plain progress (`#7 [build 2/3] RUN …`, `#7 ERROR: …`) or the classic builder's `Step 2/3 : …`."""
    text = "\n".join(lines)
    known = match(text, "build") + match(text, "load")
    failed = [found for line in lines if (found := re.match(r"#(\d+) ERROR: (.*)", line))]
    if failed:
        number, reason = failed[0][1], failed[0][2]
        own = [line for line in lines if line.startswith(f"#{number} ")]
        step = next((line.partition(" ")[2] for line in own if re.match(r"#\d+ \[", line)), "")
        said = [
            re.sub(r"^#\d+ (?:[\d.]+ )?", "", line)
            for line in own
            if not re.match(r"#\d+ (?:\[|ERROR|DONE|CACHED)", line)
        ]
        return BuildFailure(step, reason, tuple(said[-LAST:]), known)
    steps = [line.partition(" : ")[2] for line in lines if re.match(r"Step \d+/\d+ : ", line)]
    last = [line for line in lines if line.strip()][-LAST:]
    return BuildFailure(steps[-1] if steps else "", last[-1] if last else "it said nothing", tuple(last), known)
