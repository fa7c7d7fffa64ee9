"""Room on the host's disks. Pure."""

import re
from collections.abc import Mapping

from fleet.facts.frames import Frames
from fleet.facts.stored import Space

_NUMBER = r"([0-9]{1,20})"


def space(frames: Frames) -> Mapping[str, Space]:
    """Lines: `key there|absent AT<tab>PATH`, then `fs …` and `dev …` for every AT that was measured."""
    rows, rooms, devices = [], {}, {}
    for line in frames.lines("space") or ():
        if match := re.match(rf"fs {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} (.*)$", line):
            rooms[match[6]] = tuple(map(int, match.groups()[:5]))
        elif match := re.match(rf"dev {_NUMBER} (.*)$", line):
            devices[match[2]] = int(match[1])
        elif match := re.match(r"(\w+) (there|absent) (.*)\t(.*)$", line):
            rows.append(match.groups())
    found = {}
    for key, there, at, path in rows:
        if at in rooms:
            free, block, total, free_nodes, all_nodes = rooms[at]
            nodes = free_nodes if all_nodes else None  # btrfs and others count no inodes
            found[key] = Space(path, there == "there", free * block, total * block, nodes, devices.get(at))
    return found
