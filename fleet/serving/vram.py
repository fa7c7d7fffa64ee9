"""Waiting for the memory of GPUs to come back after a stop, and what is said of GPUs that keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fleet.errors import HostError
from fleet.facts import Facts
from fleet.inventory.settings import Service
from fleet.preflight.finding import Finding, catalogue
from fleet.preflight.vram import Dirty, dirty, evidence, idle, remedy, summary
from fleet.serving import observe
from fleet.serving.context import Context
from fleet.serving.steps import FreeVram

FINDING = "vram_free"  # of preflight's catalogue


class DirtyError(HostError):
    """What is to be started next does not fit into what the GPUs have free. `finding` has the evidence."""

    def __init__(self, host: str, message: str, finding: Finding, tail: Sequence[str]) -> None:
        super().__init__(host, message, hint=finding.fix, tail=tuple(tail))
        self.finding = finding


def free(step: FreeVram, context: Context) -> None:
    """Until usage is down to what an idle GPU holds, or has not fallen for the service's `vram_wait` seconds.

    GPUs that are dirty then become a finding of the context. Raises DirtyError where the next start would not fit: it
    must not even be tried, because a container that crashes on dirty GPUs keeps anybody from resetting them.
    """
    if not _still_busy(step, context):
        return
    facts = context.facts()
    found = dirty(facts, step.minors)
    if not found:  # a neighbour's partition, or it came back just now
        return
    finding = _finding(facts, found, context.name)
    narrow = [one for one in found if not one.fits(step.share)]
    context.say(f"GPUs are dirty: {summary(found)}")
    if all(one.evidence != finding.evidence for one in context.findings):  # an undo finds the same once more
        context.findings.append(finding if narrow else replace(finding, severity="warn"))
    if not narrow:
        return
    message = f"GPUs are dirty: {summary(found)}; what is to be started next wants {step.share:g} of each to be free"
    raise DirtyError(context.name, message, finding, [str(one) for one in found])


def _still_busy(step: FreeVram, context: Context) -> bool:
    patience = _patience(step, context.services) if step.patient else 0.0
    lowest: dict[int, int] = {}
    since = context.clock()
    while True:
        vram = observe.read_vram(context.session)
        mine = {minor: value for minor, value in vram.items() if step.minors is None or minor in step.minors}
        busy = {minor: used for minor, (used, total) in mine.items() if used > idle(total)}
        if not busy:
            return False
        if any(used < lowest.get(minor, used + 1) for minor, used in busy.items()):
            since = context.clock()
        lowest = {minor: min(used, lowest.get(minor, used)) for minor, used in busy.items()}
        if context.clock() - since >= patience:
            return True
        context.sleep(1.0)


def _patience(step: FreeVram, services: Mapping[str, Service]) -> float:
    service = services.get(step.service)
    return service.vram_wait if service else Service(name="", model="").vram_wait


def _finding(facts: Facts, found: Sequence[Dirty], host: str) -> Finding:
    entry = catalogue()[FINDING]
    return replace(entry.finding(evidence(found)), fix=remedy(facts, found, host))
