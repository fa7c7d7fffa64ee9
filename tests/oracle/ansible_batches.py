"""Runs in a process of its own: the batches that Ansible makes, as one JSON document on stdout.

stdin: a list of [number of hosts, serial]; answer: a list of lists of batches, each a list of host names.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

from ansible.executor.playbook_executor import PlaybookExecutor


def batches(count: int, serial: list[Any]) -> list[list[str]]:
    hosts = [f"n{number}" for number in range(count)]
    inventory = SimpleNamespace(get_hosts=lambda *_, **__: list(hosts))
    executor = SimpleNamespace(_inventory=inventory)
    play = SimpleNamespace(hosts="all", order=None, serial=serial)
    found: list[list[str]] = PlaybookExecutor._get_serialized_batches(executor, play)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps([batches(count, serial) for count, serial in json.load(sys.stdin)]))
