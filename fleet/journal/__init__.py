"""What every run that changes something leaves behind on the controller, and what it leaves on the hosts (audit)."""

from fleet.journal.header import BAD, DONE, OUTCOMES, SCHEMA, RunHeader, outcome_of
from fleet.journal.read import find, latest, read, runs, unfinished_chain
from fleet.journal.redaction import redactor_for
from fleet.journal.story import (
    HostStory,
    Remaining,
    RunStory,
    RunSummary,
    StepStory,
    only_failed,
    remaining,
)
from fleet.journal.write import Journal

__all__ = [
    "BAD",
    "DONE",
    "OUTCOMES",
    "SCHEMA",
    "HostStory",
    "Journal",
    "Remaining",
    "RunHeader",
    "RunStory",
    "RunSummary",
    "StepStory",
    "find",
    "latest",
    "only_failed",
    "outcome_of",
    "read",
    "redactor_for",
    "remaining",
    "runs",
    "unfinished_chain",
]
