"""Facts and needs in, findings out."""

from fleet.preflight import checks  # the checks register themselves when they are imported
from fleet.preflight.finding import Entry, Finding, catalogue, verdict
from fleet.preflight.needs import ImageFacts, Needs, ServiceNeeds, Targets, needs_of
from fleet.preflight.registry import CHECKS, Blind, check

__all__ = [
    "CHECKS",
    "Blind",
    "Entry",
    "Finding",
    "ImageFacts",
    "Needs",
    "ServiceNeeds",
    "Targets",
    "catalogue",
    "check",
    "checks",
    "needs_of",
    "verdict",
]
