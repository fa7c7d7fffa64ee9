"""2,000 inventories broken at random from good ones: every one loads or is refused in words, soon."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.errors import InputError
from fleet.inventory import describe, load

ROOT = Path(__file__).parents[2]
GOOD = [
    (ROOT / "inventories/prod.example.yaml").read_text(encoding="utf-8"),
    (ROOT / "inventories/airgap.example.yaml").read_text(encoding="utf-8"),
    (ROOT / "tests/data/inventories/patterns.yaml").read_text(encoding="utf-8"),
]
SCRAPS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "-",
    "&",
    "*",
    "!",
    "|",
    ">",
    "%",
    "@",
    "`",
    "'",
    '"',
    "#",
    "?",
    "~",
    "null",
    "yes",
    "1",
    "-1",
    "1e999",
    ".nan",
    "0x1f",
    "1:30",
    "[]",
    "{}",
    "*x",
    "&x",
    "<<:",
    "!!binary",
    "!vault\n!unsafe",
    "{{",
    "{%",
    "'{}'",
    "'h[1:99999999]'",
    "'['",
    "']'",
    "!!set",
    "!!timestamp",
    "2024-13-45",
    "\ufeff",
    "\x00",
    "\t",
    "é",
    "💥",
    "=",
    "fleet:",
    "ansible_port:",
    "<<",
]
BATCHES = 20


def broken(rng: random.Random, good: Sequence[str] = GOOD) -> bytes:
    lines = rng.choice(good).splitlines()
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        line = lines[at]
        spot = rng.randint(0, len(line))
        match rng.randrange(8):
            case 0:
                lines[at] = line[:spot] + rng.choice(SCRAPS) + line[spot:]
            case 1:
                lines[at] = " " * rng.randint(0, 6) + line.lstrip()
            case 2:
                lines[at] = line[:spot]
            case 3:
                lines.insert(rng.randrange(len(lines)), line)
            case 4:
                key, colon, _ = line.partition(":")
                lines[at] = f"{key}{colon} {rng.choice(SCRAPS)}"
            case 5:
                lines[at] = line.replace("e", rng.choice(["", "ee", "3"]), 1)
            case 6:
                del lines[at]
                lines.append("")
            case _:
                words = line.split()
                rng.shuffle(words)
                lines[at] = line[: len(line) - len(line.lstrip())] + " ".join(words)
    text = "\n".join(lines).encode()
    if rng.random() < 0.1:
        spot = rng.randrange(len(text))
        text = text[:spot] + rng.randbytes(rng.randint(1, 3)) + text[spot:]
    return text


@pytest.mark.parametrize("batch", range(BATCHES))
def test_broken_inventories_end_in_words_and_in_time(batch: int, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    refused = silent = 0
    for seed in range(batch * 100, batch * 100 + 100):
        path.write_bytes(broken(random.Random(seed)))  # noqa: S311  a generator of tests
        started = time.monotonic()
        try:
            inventory = load([str(path)])
            describe(inventory, inventory.hosts.values())
        except InputError as error:
            refused += 1
            silent += not all(problem.message and problem.file for problem in error.problems)
        assert time.monotonic() - started < 10, seed  # a hang, not a measure of speed
    assert refused > 20
    assert silent == 0
