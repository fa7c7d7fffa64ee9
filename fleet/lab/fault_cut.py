"""Pull a node's cables out later: `python -m fleet.lab.fault_cut LINK... --seconds S | --bytes B`, one small process.

Bytes are counted on the machine's ends of the links, in both directions, from the moment it starts.
"""

import argparse
import subprocess
import time
from pathlib import Path

INTERVAL = 0.02  # seconds between two looks at the counters


def standing(link: str) -> bool:
    """Whether the link still exists; with the lab gone there is nothing to wait for."""
    return (Path("/sys/class/net") / link).exists()


def moved(links: list[str]) -> int:
    """Bytes that went over the links since they exist; a link that is gone counts nothing."""
    total = 0
    for link in links:
        for counter in ("rx_bytes", "tx_bytes"):
            file = Path("/sys/class/net") / link / "statistics" / counter
            total += int(file.read_text()) if file.exists() else 0
    return total


def main() -> None:
    """Wait for the moment, then cut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("links", nargs="+")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--bytes", type=int, default=0)
    arguments = parser.parse_args()
    time.sleep(arguments.seconds)
    start = moved(arguments.links)
    while any(map(standing, arguments.links)) and moved(arguments.links) - start < arguments.bytes:
        time.sleep(INTERVAL)
    for link in arguments.links:
        subprocess.run(("ip", "link", "set", link, "down"), check=False, capture_output=True)


if __name__ == "__main__":
    main()
