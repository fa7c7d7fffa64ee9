"""Runs in a process of its own: what Ansible makes of many inventories, as one JSON document on stdout.

stdin: {"cases": [[source, ...], ...], "patterns": {"case": index, "patterns": [...]}}.
"""

import json
import sys
from typing import Any

from ansible import constants
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager

MAGIC = {"inventory_hostname", "inventory_hostname_short", "group_names", "inventory_file", "inventory_dir", "omit"}
MAGIC |= {
    "ansible_version",
    "ansible_playbook_python",
    "ansible_facts",
    "playbook_dir",
    "groups",
    "ansible_config_file",
}


def variables(sources: list[str], behaviour: str) -> tuple[InventoryManager, dict[str, dict[str, Any]]]:
    constants.DEFAULT_HASH_BEHAVIOUR = behaviour
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=sources)
    manager = VariableManager(loader=loader, inventory=inventory)
    found = {}
    for host in inventory.get_hosts():
        values = manager.get_vars(host=host, include_hostvars=False, stage="all")
        found[host.name] = {key: value for key, value in values.items() if key not in MAGIC}
    return inventory, found


def case(sources: list[str]) -> dict[str, Any]:
    inventory, replaced = variables(sources, "replace")
    _, merged = variables(sources, "merge")
    for name, values in replaced.items():
        if "fleet" in values:
            values["fleet"] = merged[name]["fleet"]
    groups = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
    return {"hosts": list(inventory.hosts), "groups": groups, "variables": replaced}


def pattern(inventory: InventoryManager, text: str) -> list[str] | str:
    try:
        return [host.name for host in inventory.get_hosts(text)]
    except Exception as error:  # noqa: BLE001  whatever Ansible refuses, we refuse
        return f"error: {error}"


def main() -> None:
    asked = json.load(sys.stdin)
    inventory, _ = variables(asked["patterns"]["sources"], "replace")
    answer = {
        "cases": [case(sources) for sources in asked["cases"]],
        "patterns": [pattern(inventory, text) for text in asked["patterns"]["patterns"]],
    }
    sys.stdout.write(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
