"""`serial` against Ansible's own code: every percentage of many fleets, and series of all kinds."""

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

from fleet.playbook import Play, Verify, batches
from fleet.playbook.convert import amount_of

Serial = list[int | str]
HERE = Path(__file__).parent
SIZES = (0, 1, 2, 3, 7, 8, 10, 12, 50, 99, 100, 101, 200)


def cases() -> list[tuple[int, Serial]]:
    dice = random.Random(4)  # noqa: S311  cases, no secrets
    sizes: list[int | str] = [0, 1, 2, 3, 10, 300, "3", "0%", "1%", "25%", "29%", "33%", "57%", "100%", "150%"]
    series: list[Serial] = [[], *([size] for size in sizes), *map(list, itertools.product(sizes[1:], repeat=2))]
    series += [dice.choices(sizes, k=dice.randint(3, 6)) for _ in range(300)]
    found = [(count, serial) for serial in series for count in SIZES]
    return found + [(count, [f"{percent}%"]) for percent in range(101) for count in range(1, 60)]


def test_batches_are_those_of_ansible() -> None:
    asked = cases()
    done = subprocess.run(
        (sys.executable, str(HERE / "ansible_batches.py")),
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for (count, serial), expected in zip(asked, json.loads(done.stdout), strict=True):
        names = [f"n{number}" for number in range(count)]
        play = Play("roll", (Verify(),), serial=tuple(map(amount_of, serial)))
        ours = [list(batch.hosts) for batch in batches(names, play)]
        assert ours == expected, (count, serial)
