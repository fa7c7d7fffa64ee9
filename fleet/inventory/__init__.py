"""YAML to resolved, frozen hosts: Ansible's inventory format, with `fleet:` merged deeply and checked strictly."""

from fleet.inventory.describe import describe
from fleet.inventory.load import load
from fleet.inventory.patterns import select
from fleet.inventory.validate import schema

__all__ = ["describe", "load", "schema", "select"]
