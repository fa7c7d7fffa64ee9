"""A deploy with nothing to do, against the preflight of the same hosts, in one run on a default lab of its own.

.venv/bin/python benchmarks/noop.py --rounds 5
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleet.lab import Lab

FLEET = Path(sys.executable).with_name("fleet")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="fleet-noop-") as folder:
        lab = Lab.up("noop", inventories=Path(folder))
        try:
            seconds("deploy", folder, lab)  # builds, delivers and starts; every later one has nothing to do
            pairs = [(seconds("preflight", folder, lab), seconds("deploy", folder, lab)) for _ in range(rounds)]
        finally:
            lab.down()
    preflight, deploy = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"preflight {preflight:.2f} s, deploy with nothing to do {deploy:.2f} s: {deploy / preflight:.2f} x")


def seconds(verb: str, folder: str, lab: Lab) -> float:
    started = time.monotonic()
    subprocess.run(
        (FLEET, verb, "--inventory", lab.inventory, "--limit", "gpu"), cwd=folder, check=True, capture_output=True
    )
    return time.monotonic() - started


if __name__ == "__main__":
    main()
