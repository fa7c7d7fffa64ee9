"""What a run did on a host, as lines in the host's own audit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fleet.delivery.plan import Load, Step, Tag
from fleet.errors import HostError
from fleet.journal import Journal
from fleet.journal.audit import AuditEntry, append, signed
from fleet.rollout.run import Outcome
from fleet.rollout.site import Site
from fleet.seam import Seam
from fleet.serving.steps import Remember
from fleet.transport import Session


def of_images(steps: Iterable[Step], result: int | HostError) -> list[AuditEntry]:
    """Of the steps that were carried out: one entry for each image that was brought; a failure is one entry for the host."""
    if isinstance(result, HostError):
        return [AuditEntry("", "", "bring", "failed", message=result.message)]
    return [
        AuditEntry("", "", "bring", "done", release=_release(step), message=step.what) for step in steps if step.changes
    ]


def _release(step: Step) -> str:
    """Of a step that gives a release its name NAME:RELEASE."""
    return step.name.rpartition(":")[2] if isinstance(step, Load | Tag) else ""


def of_replica(step: Remember) -> AuditEntry:
    """Of a replica that has answered."""
    return AuditEntry(
        "", "", "serve", "done", service=step.service, replica=step.name, release=step.release, spec=step.spec, message=step.why
    )  # fmt: skip


def of_containers(site: Site, finished: int, error: HostError | None) -> list[AuditEntry]:
    """One entry for each change of the plan that was begun: the first `finished` are done, the next one failed.

    What was written down as it answered is not told twice.
    """
    specs = {spec.name: spec for spec in site.prepared.desired.specs} if site.prepared is not None else {}
    changes = site.plan.serving.changes
    begun = changes[: finished + 1] if error is not None else changes
    entries = []
    for number, change in enumerate(begun):
        if number < finished and any(isinstance(step, Remember) for step in change.commit):
            continue
        spec = specs.get(change.name)
        entries.append(
            AuditEntry(
                "",
                "",
                "serve" if spec else "remove",
                "done" if number < finished else "failed",
                service=spec.service if spec else "",
                replica=change.name,
                release=spec.image.release if spec else "",
                spec=spec.hash if spec else "",
                message=error.message if error is not None and number == finished else change.why,
            )
        )
    return entries


@dataclass(frozen=True)
class WriteDown:
    """Lines for the host's audit, of deeds of these kinds."""

    actions: tuple[str, ...]
    why: str = "who did what here is read on the host, by every controller"

    @property
    def what(self) -> str:
        return f"write down in the host's audit: {', '.join(self.actions)}"


def write(outcome: Outcome, journal: Journal, clock: Callable[[], float]) -> str:
    """Append the host's deeds since the last call, in one round trip; returns what went wrong, or empty."""
    if not outcome.deeds or outcome.site is None:
        return ""
    deeds, outcome.deeds = outcome.deeds, []
    now, run, verb = clock(), journal.id, journal.header.verb
    entries = [
        AuditEntry(**{**vars(one), "run": run, "verb": verb, "at": now, "message": journal.redact(one.message)})
        for one in deeds
    ]
    return put(outcome.site.session, entries, journal)


def put(session: Session, entries: Sequence[AuditEntry], seam: Seam) -> str:
    """Append these; returns what went wrong, or empty. For a host whose lock was lost too: what was done there was done."""
    if not entries:
        return ""
    step = WriteDown(tuple(dict.fromkeys(one.action for one in entries)))

    def do() -> None:
        append(session, [signed(entry, session.user) for entry in entries])

    try:
        seam.perform(session.host.name, step, do)
    except HostError as error:
        return f"what was done here could not be written into the host's audit: {error.message}"
    return ""
