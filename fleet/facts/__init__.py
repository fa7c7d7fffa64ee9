"""What a host said about itself: one probe, one round trip, one pure parser."""

from fleet.facts.collect import PROBE, ProbeNeeds, capture, collect, read_tree
from fleet.facts.model import Container, Docker, Facts, Gpu, Space
from fleet.facts.parse import parse

__all__ = [
    "PROBE",
    "Container",
    "Docker",
    "Facts",
    "Gpu",
    "ProbeNeeds",
    "Space",
    "capture",
    "collect",
    "parse",
    "read_tree",
]
