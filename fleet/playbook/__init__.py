"""Playbooks: YAML in, frozen plays out, and their hosts in batches."""

from fleet.playbook.batches import Batch, batches
from fleet.playbook.load import load, schema
from fleet.playbook.model import (
    STAGES,
    Amount,
    Distribute,
    Image,
    Models,
    Play,
    Playbook,
    Preflight,
    Prepare,
    Prune,
    Serve,
    Stage,
    Verify,
)

__all__ = [
    "STAGES",
    "Amount",
    "Batch",
    "Distribute",
    "Image",
    "Models",
    "Play",
    "Playbook",
    "Preflight",
    "Prepare",
    "Prune",
    "Serve",
    "Stage",
    "Verify",
    "batches",
    "load",
    "schema",
]
