"""Check functions by catalogue id, and the one loop that runs them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fleet.facts.cards import family
from fleet.facts.model import Facts
from fleet.preflight.finding import Entry, Finding, catalogue
from fleet.preflight.needs import Needs


@dataclass(frozen=True)
class Blind:
    """A check could not be made: what it needed to see. Never a pass."""

    what: str


@dataclass(frozen=True)
class Told:
    """Evidence with a fix of its own: the commands name what was found."""

    evidence: str
    fix: str


Result = str | Told | Blind | None  # the evidence of a finding, blindness, or nothing to say
Check = Callable[[Facts, Needs], Result]
CHECKS: dict[str, Check] = {}


def checks(name: str) -> Callable[[Check], Check]:
    """Register the function that decides the catalogue's `name`."""

    def register(function: Check) -> Check:
        if name in CHECKS:
            raise ValueError(f"two checks are called {name}")
        CHECKS[name] = function
        return function

    return register


def check(facts: Facts, needs: Needs) -> tuple[Finding, ...]:
    """Judge the facts of one host. Findings stand in the catalogue's order; accepted ones carry their reason."""
    found: dict[str, Finding] = {}
    for entry in catalogue().values():
        if not _applies(entry, facts, needs):
            continue
        result = CHECKS[entry.id](facts, needs)
        if isinstance(result, Blind):
            if not any(earlier in found for earlier in entry.after):
                found[entry.id] = entry.finding(f"could not be read: {result.what}", unread=True)
        elif isinstance(result, Told):
            found[entry.id] = replace(entry.finding(result.evidence), fix=result.fix)
        elif result:
            found[entry.id] = entry.finding(result)
    return tuple(replace(finding, accepted=needs.accept.get(finding.id, "")) for finding in found.values())


def roles(facts: Facts, needs: Needs) -> frozenset[str]:
    """What the host is for. One that shows GPUs is judged as one that serves, whatever the inventory forgot to say."""
    shows = facts.topology.gpus or facts.topology.pci or facts.driver.state in ("live", "builtin")
    found = {"serve": needs.serves or bool(shows), "build": needs.builds}
    return frozenset(role for role, it_is in found.items() if it_is) or frozenset({"none"})


def _applies(entry: Entry, facts: Facts, needs: Needs) -> bool:
    if not roles(facts, needs) & set(entry.roles):
        return False
    if not entry.gpus:
        return True
    models = {family(gpu.model) for gpu in facts.gpus if gpu.model} or {family(needs.gpus.model)}
    return bool(models & set(entry.gpus))
