"""What a roll costs the controller: CPU for each remote call and host, and memory, as the fleet grows.

Simulated fleets (benchmarks/simulated) of several sizes: a first deploy, then the roll that is measured, which pulls a
new release and replaces every container under `min_available: 75%`, then a deploy that finds nothing to do. With --lab
the same on real nodes, 4 and then 8. CPU is that of the whole command with the children it waited for; a call is a command, a
Docker API request or an HTTP request to a vLLM that the controller waited for.

    .venv/bin/python -m benchmarks.roll --hosts 50 100 200 --plot docs/scale.svg
    .venv/bin/python -m benchmarks.roll --lab
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.simulated.fleet import Cost, simulated
from benchmarks.simulated.plot import plot


@dataclass(frozen=True)
class Row:
    """One deploy of one fleet."""

    what: str
    hosts: int
    seconds: float
    cpu: float
    megabytes: float
    calls: int
    channels: int

    @classmethod
    def of(cls, what: str, hosts: int, cost: Cost) -> "Row":
        return cls(what, hosts, cost.seconds, cost.cpu, cost.megabytes, cost.calls, cost.channels)


def measure(hosts: int, rounds: int) -> list[Row]:
    """The deploys of one simulated fleet; of several rolls the one that took least CPU."""
    with tempfile.TemporaryDirectory(prefix="fleet-roll-") as folder, simulated(Path(folder), hosts) as fleet:
        fleet.run("plan")  # compiles the modules, as an installation has them
        rows = [Row.of("first", hosts, _well(fleet.deploy(0)))]
        rolls = [Row.of("roll", hosts, _well(fleet.deploy(number % 2))) for number in range(1, rounds + 1)]
        rows.append(min(rolls, key=lambda row: row.cpu))
        rows.append(Row.of("nothing to do", hosts, _well(fleet.deploy(rounds % 2))))
    return rows


def _well(cost: Cost) -> Cost:
    if cost.code:
        failed = [line for line in cost.output.splitlines() if line.startswith(("FAILED", "ENDED"))]
        sys.exit("\n".join((f"the deploy ended with {cost.code}:", *(failed or [cost.output[-3000:]]))))
    return cost


def show(row: Row) -> None:
    """One line, as soon as it is known."""
    channels = f", {row.channels} channels" if row.channels else ""
    calls = f", {1000 * row.cpu / row.calls:5.2f} ms a call ({row.calls}{channels})" if row.calls else ""
    print(
        f"{row.hosts:4} hosts  {row.what:14} {row.seconds:6.1f} s  CPU {row.cpu:6.2f} s = "
        f"{1000 * row.cpu / row.hosts:4.0f} ms a host{calls}  {row.megabytes:4.0f} MB  load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def slopes(rows: Sequence[Row]) -> str:
    """What one host more costs, between the smallest and the largest fleet."""
    small, large = min(rows, key=lambda row: row.hosts), max(rows, key=lambda row: row.hosts)
    more = large.hosts - small.hosts
    return (
        f"{small.what}: one host more costs {1000 * (large.cpu - small.cpu) / more:.0f} ms of CPU and "
        f"{(large.megabytes - small.megabytes) / more:.2f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--rounds", type=int, default=1, help="rolls of each fleet; the cheapest counts")
    parser.add_argument("--lab", type=int, nargs="*", metavar="NODES", help="so many real nodes instead (4, then 8)")
    parser.add_argument("--plot", type=Path, help="write an SVG here")
    parser.add_argument("--save", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    rows: list[Row] = []
    real = options.lab is not None
    for nodes in (options.lab or (4, 8)) if real else ():
        from benchmarks.lab_roll import measure_lab

        for what, cost in measure_lab(nodes):
            rows.append(Row.of(what, nodes, _well(cost)))
            show(rows[-1])
    for hosts in () if real else options.hosts:
        found = measure(hosts, options.rounds)
        for row in found:
            show(row)
        rows += found
    for what in ("first", "roll", "nothing to do"):
        same = [row for row in rows if row.what == what]
        if len(same) > 1:
            print(slopes(same))
    if options.save:
        options.save.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    if options.plot:
        rolls = [row for row in rows if row.what == "roll"]
        options.plot.write_text(
            plot([(row.hosts, row.cpu, row.megabytes, row.calls) for row in rolls]), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
