"""What a `docker build` said: how long its stages took; of a failed one the step, its last lines, known signatures. Pure."""

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


def stage_seconds(lines: Sequence[str]) -> dict[str, float]:
    """How long each stage's steps took, in BuildKit's plain progress, in the order of their beginning; steps that run side
    by side all count. What belongs to no stage is `other`, of a single nameless stage `image`. The classic builder tells no times.
    """
    stages: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for line in lines:
        found = re.match(r"#(\d+) (.*)", line)
        if found is None:
            continue
        number, said = found[1], found[2]
        if done := re.fullmatch(r"DONE ([0-9.]+)s", said):
            seconds[number] = float(done[1])
        elif number not in stages:
            stages[number] = _stage(said)
    totals: dict[str, float] = {}
    for number, stage in stages.items():
        if number in seconds:
            totals[stage] = totals.get(stage, 0.0) + seconds[number]
    return {stage: round(value, 1) for stage, value in totals.items()}


def _stage(said: str) -> str:
    """`[linux/amd64 build 2/3] RUN …` is of stage build."""
    found = re.match(r"\[(?:linux/\S+ )?(?:(\S+) )?\d+/\d+\]", said)
    return (found[1] or "image") if found else "other"
