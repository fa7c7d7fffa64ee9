"""Invoke's entry in a checkout: the same namespace as the installed `fleet` command."""

from fleet.tasks import namespace

__all__ = ["namespace"]
