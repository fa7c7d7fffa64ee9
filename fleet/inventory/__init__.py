"""Ansible's YAML inventories, resolved to frozen hosts."""

from fleet.inventory.describe import describe
from fleet.inventory.load import load
from fleet.inventory.patterns import select
from fleet.inventory.validate import schema

__all__ = ["describe", "load", "schema", "select"]
