"""What the host's packet filter does with a new TCP connection from outside. Pure.

Read are nftables' ruleset and what iptables-save prints; only chains of the input hook count, for IPv4.
"""

import re
from collections.abc import Iterator

from fleet.facts.frames import Frames
from fleet.facts.software import Chain, Firewall

LONGEST = 3000  # lines of a ruleset; the probe cuts there


def firewall(frames: Frames) -> Firewall:
    """A ruleset that could not be read, or was cut, gives chains of None."""
    tools = tuple(line for line in frames.lines("firewall") or () if re.fullmatch(r"[a-z]+", line))
    if frames.lines("firewall.done") is None:
        return Firewall(tools)
    nft, saved = frames.lines("firewall.nft") or (), frames.lines("firewall.iptables") or ()
    too_much = max(len(nft), len(saved)) >= LONGEST
    if too_much or any("is incompatible, use" in line for line in saved):
        return Firewall(tools)
    return Firewall(tools, (*_reached(list(_nft(nft))), *_reached(list(_iptables(saved)))))


def _reached(chains: list[Chain]) -> Iterator[Chain]:
    """Base chains, and the others of their tables that a rule among them names."""
    by_name = {(chain.table, chain.name): chain for chain in chains}
    wanted = [chain for chain in chains if chain.base]
    seen = {(chain.table, chain.name) for chain in wanted}
    while wanted:
        chain = wanted.pop(0)
        yield chain
        for name in {word for rule in chain.rules for word in re.findall(r"[\w.-]+", rule)}:
            other = by_name.get((chain.table, name))
            if other is not None and (other.table, other.name) not in seen:
                seen.add((other.table, other.name))
                wanted.append(other)


def _nft(lines: tuple[str, ...]) -> Iterator[Chain]:
    """`table ip NAME {`, in it `chain NAME {`, in it one line for the hook and one a rule."""
    table, name, base, policy = "", "", False, "accept"
    rules: list[str] = []
    skipped = 0  # depth inside of sets, maps and what else a table holds
    for line in _joined(lines):
        if skipped:
            skipped += line.count("{") - line.count("}")
        elif match := re.fullmatch(r"table (\S+) (\S+) \{(?: #.*)?", line):
            table = f"{match[1]} {match[2]}"
        elif match := re.fullmatch(r"chain (\S+) \{(?: #.*)?", line):
            name, base, policy, rules = match[1], False, "accept", []
        elif line == "}" and name:
            if table.split(" ")[0] in ("ip", "inet"):
                yield Chain("nft", table, name, base, policy, tuple(rules))
            name = ""
        elif name and (match := re.match(r"type \w+ hook (\w+) ", line)):
            base = match[1] == "input" and line.startswith("type filter")
            policy = "drop" if "policy drop" in line else "accept"
        elif name:
            rules.append(line)
        elif line.endswith("{"):
            skipped = 1


def _joined(lines: tuple[str, ...]) -> Iterator[str]:
    """Rules whose anonymous set goes over several lines, as one line each."""
    held = ""
    for raw in lines:
        held = f"{held} {raw.strip()}".strip()
        opens_block = re.search(
            r"^(table|chain|set|map|flowtable|counter|quota|limit|ct \w+|secmark|synproxy)\b.*\{", held
        )
        if opens_block or held.count("{") <= held.count("}"):
            yield held
            held = ""


def _iptables(lines: tuple[str, ...]) -> Iterator[Chain]:
    """`*filter`, then `:CHAIN POLICY [0:0]` for each chain and `-A CHAIN …` for each rule."""
    policies: dict[str, str] = {}
    rules: dict[str, list[str]] = {}
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif table == "filter" and (match := re.match(r":(\S+) (\S+)", line)):
            policies[match[1]] = match[2].lower()
        elif table == "filter" and (match := re.match(r"-A (\S+) ?(.*)", line)):
            rules.setdefault(match[1], []).append(match[2])
    for name, policy in policies.items():
        yield Chain("iptables", "filter", name, name == "INPUT", policy, tuple(rules.get(name, ())))
