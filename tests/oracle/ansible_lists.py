"""Runs in a process of its own: `ansible-inventory --list` of many inventories, as a JSON list on stdout.

stdin: [[source, ...], ...]. ANSIBLE_HASH_BEHAVIOUR of the environment counts. One start for all of them, because each
start of Ansible costs most of a second.
"""

import contextlib
import io
import json
import multiprocessing
import sys
from typing import Any

from ansible.cli.inventory import InventoryCLI


def listed(sources: list[str]) -> Any:
    words = [word for source in sources for word in ("-i", source)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        InventoryCLI(["ansible-inventory", *words, "--list"]).run()
    return json.loads(text.getvalue())


if __name__ == "__main__":
    # Ansible takes one command line a process, so each is run in a fork that has everything imported.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        sys.stdout.write(json.dumps(pool.map(listed, json.load(sys.stdin), chunksize=1)))
