"""A small real fleet on one Linux machine: real sshd, Docker engines and registry; only the GPUs are pretended.

The names below are imported on first use: a node's first process and its accountant are modules of this package too,
and stay small.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet.lab.lab import Lab
    from fleet.lab.node import Node, NodeStatus
    from fleet.lab.topology import NodeSpec, default_specs

__all__ = ["Lab", "Node", "NodeSpec", "NodeStatus", "default_specs"]

_HOMES = {"Lab": "lab", "Node": "node", "NodeStatus": "node", "NodeSpec": "topology", "default_specs": "topology"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
