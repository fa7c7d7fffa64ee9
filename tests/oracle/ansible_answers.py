"""Ask Ansible itself about many inventories in one start: run with a JSON list of questions on standard input.

A question is `{"sources": [...], "patterns": [...]}`; the answer `{"list": ansible-inventory --list, "patterns": {p: [hosts]}}`.
ANSIBLE_HASH_BEHAVIOUR of the environment counts. One start, because each costs most of a second.
"""

import contextlib
import io
import json
import multiprocessing
import sys
from typing import Any

from ansible.cli.inventory import InventoryCLI
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader


def answer(question: dict[str, Any]) -> dict[str, Any]:
    sources = [word for source in question["sources"] for word in ("-i", source)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        InventoryCLI(["ansible-inventory", *sources, "--list"]).run()
    patterns = {}
    if question["patterns"]:
        manager = InventoryManager(loader=DataLoader(), sources=question["sources"])
        patterns = {one: [host.name for host in manager.get_hosts(one)] for one in question["patterns"]}
    return {"list": json.loads(text.getvalue()), "patterns": patterns}


if __name__ == "__main__":
    # Ansible takes one command line a process, so each question is asked in a fork that has everything imported.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        print(json.dumps(pool.map(answer, json.load(sys.stdin), chunksize=1)))
