"""Does the host's packet filter let a stranger's new TCP connection in on a port? Pure, by reading rules one by one.

What a rule tests is certain, impossible, limited (to an address or an interface), or not understood. A verdict counts
for every packet only where all that the rule tests is certain; the rest keeps an answer from being certain itself.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from fleet.facts.software import Chain, Firewall

Answer = Literal["open", "closed", "limited"]
_DEEPEST = 16  # jumps; the kernel's own limit


class Match(IntEnum):
    """How surely a rule meets the packet; the larger one of two tests holds for both."""

    YES = 0
    LIMITED = 1
    UNKNOWN = 2
    NO = 3


@dataclass(frozen=True)
class Step:
    """One rule for one packet. `verdict`: accept, drop, return, jump, goto or empty; `target` is a chain."""

    match: Match
    verdict: str = ""
    target: str = ""


def admits(firewall: Firewall, port: int) -> Answer | None:
    """`limited`: some senders or interfaces may. None where the rules could not be read or not be understood."""
    if firewall.chains is None:
        return None
    by_name = {(chain.table, chain.name): chain for chain in firewall.chains}
    answers = [_chain(chain, by_name, port) for chain in firewall.chains if chain.base]
    if "closed" in answers:
        return "closed"  # a packet has to pass every one of them
    if None in answers:
        return None
    return "limited" if "limited" in answers else "open"


def _chain(chain: Chain, by_name: Mapping[tuple[str, str], Chain], port: int) -> Answer | None:
    maybe: dict[str, Match] = {}  # the least certain accept and drop on the way
    final = _walk(chain, by_name, port, Match.YES, maybe, 0)
    final = chain.policy if final in ("", "return") else final
    if final == "accept":
        return None if maybe.get("drop") == Match.UNKNOWN else "open"
    accepts = maybe.get("accept")
    return None if accepts == Match.UNKNOWN else "closed" if accepts is None else "limited"


def _walk(
    chain: Chain, by_name: Mapping[tuple[str, str], Chain], port: int, sure: Match, maybe: dict[str, Match], depth: int
) -> str:
    """The verdict that is certain to be met: accept, drop, return, or empty at the end of the chain."""
    for text in chain.rules:
        step = _READERS[chain.syntax](text, port)
        match = max(sure, step.match)
        if step.match == Match.NO or not step.verdict:
            continue
        if step.verdict in ("jump", "goto"):
            other = by_name.get((chain.table, step.target))
            if other is None or depth >= _DEEPEST:
                maybe.update(accept=Match.UNKNOWN, drop=Match.UNKNOWN)
                continue
            inner = _walk(other, by_name, port, match, maybe, depth + 1)
            if match == sure and inner in ("accept", "drop"):
                return inner
            if match == sure and step.verdict == "goto":
                return "return"
        elif match == sure:
            if sure != Match.YES and step.verdict != "return":
                maybe[step.verdict] = max(maybe.get(step.verdict, Match.YES), match)
            return step.verdict
        elif step.verdict == "return":
            maybe.update(accept=Match.UNKNOWN, drop=Match.UNKNOWN)  # what follows is met by some only
        else:
            maybe[step.verdict] = max(maybe.get(step.verdict, Match.YES), match)
    return ""


_VERDICTS = {"accept": "accept", "drop": "drop", "reject": "drop", "return": "return"}
# Statements of nft that test nothing.
_NEUTRAL = re.compile(
    r"counter(?: packets \d+ bytes \d+)?(?= |$)"
    r"|log(?: (?:prefix|group|level|flags|snaplen|queue-threshold) (?:\"[^\"]*\"|\S+))*(?= |$)"
    r"|comment \"[^\"]*\"|#.*$"
)
_TEST = re.compile(
    r"(?P<key>(?:meta )?(?:l4proto|nfproto|iifname|iif)|ip protocol|(?:tcp|udp|th) [sd]port|ct state|ip saddr|ip daddr"
    r"|ether saddr|icmp(?:v6)? \w+|ip6 \w+) (?:== )?(?P<not>!= )?(?P<value>\{[^}]*\}|\"[^\"]*\"|\S+)"
)


def _nft(text: str, port: int) -> Step:
    match, rest = Match.YES, text.strip()
    while rest:
        if neutral := _NEUTRAL.match(rest):
            rest = rest[neutral.end() :].lstrip()
        elif verdict := re.match(r"(accept|drop|reject|return)(?= |$)", rest):
            return Step(match, _VERDICTS[verdict[1]])
        elif jump := re.match(r"(jump|goto) (\S+)", rest):
            return Step(match, jump[1], jump[2])
        elif states := re.match(r"ct state vmap \{([^}]*)\}", rest):
            pairs = dict(re.findall(r"(\w+) : (\w+)", states[1]))
            verdict_of_new = _VERDICTS.get(pairs.get("new", ""), "")
            return Step(match if verdict_of_new else Match.NO, verdict_of_new)
        elif (test := _TEST.match(rest)) and test["value"] != "vmap":
            found = _tested(test["key"].removeprefix("meta "), test["value"].strip('"{} '), port)
            match = max(match, _opposite(found) if test["not"] else found)
            rest = rest[test.end() :].lstrip()
        else:
            # Something else is tested. Its verdict, if any, stands at the end.
            last = re.search(r"\b(accept|drop|reject|return|vmap|jump|goto)\b(?: (\S+))?", rest)
            match = max(match, Match.UNKNOWN)
            if last is None:
                return Step(match)
            if last[1] in ("jump", "goto"):
                return Step(match, last[1], last[2] or "")
            return Step(match, _VERDICTS.get(last[1], "return"))
    return Step(match)


def _tested(key: str, value: str, port: int) -> Match:
    words = re.split(r"[,\s]+", value)
    if key in ("l4proto", "ip protocol"):
        return Match.YES if {"tcp", "6"} & set(words) else Match.NO
    if key == "nfproto":
        return Match.YES if {"ipv4", "2"} & set(words) else Match.NO
    if key in ("tcp dport", "th dport"):
        return _port(words, port, "-")
    if key == "ct state":
        return Match.YES if "new" in words else Match.NO
    if key in ("iif", "iifname"):
        return Match.NO if words == ["lo"] else Match.LIMITED
    if key in ("ip saddr", "ether saddr", "ip daddr"):
        return Match.LIMITED
    if key.startswith(("udp", "icmp", "ip6")):
        return Match.NO
    return Match.UNKNOWN


def _port(words: list[str], port: int, dash: str) -> Match:
    """Whether a list of ports and ranges holds ours; a name or a set by name is not looked up."""
    known = True
    for word in words:
        first, _, last = word.partition(dash)
        if not first.isdecimal() or not (last or first).isdecimal():
            known = False
        elif int(first) <= port <= int(last or first):
            return Match.YES
    return Match.NO if known else Match.UNKNOWN


def _opposite(match: Match) -> Match:
    return {Match.YES: Match.NO, Match.NO: Match.YES}.get(match, match)


def _iptables(text: str, port: int) -> Step:
    match = Match.YES
    for key, value, negated in _options(text):
        if key in ("-j", "-g"):
            if value in ("ACCEPT", "DROP", "REJECT", "RETURN"):
                return Step(match, _VERDICTS[value.lower()])
            if value.isupper() and value in _TARGETS:
                return Step(match)
            return Step(match, "jump" if key == "-j" else "goto", value)
        found = _option(key, value, port)
        match = max(match, _opposite(found) if negated else found)
    return Step(match)


_TARGETS = {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TRACE", "AUDIT", "SET", "CT", "NOTRACK"}


def _options(text: str) -> Iterator[tuple[str, str, bool]]:
    """(option, value, negated) of a rule as iptables-save prints it, `-j` last."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    negated = False
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if word == "!":
            negated = True
            continue
        values = []
        while at < len(words) and not words[at].startswith("-") and words[at] != "!":
            values.append(words[at])
            at += 1
        yield word, " ".join(values), negated
        negated = False


def _option(key: str, value: str, port: int) -> Match:
    if key in ("-m", "--comment"):
        return Match.YES
    if key == "-p":
        return Match.YES if value in ("tcp", "6", "all", "0") else Match.NO
    if key in ("--dport", "--dports"):
        return _port(value.split(","), port, ":")
    if key in ("--state", "--ctstate"):
        return Match.YES if "NEW" in value.split(",") else Match.NO
    if key == "-i":
        return Match.NO if value == "lo" else Match.LIMITED
    if key in ("-s", "-d"):
        return Match.LIMITED
    if key == "--tcp-flags":
        return Match.YES if value.split(" ")[-1:] == ["SYN"] else Match.NO
    return Match.UNKNOWN


_READERS: Mapping[str, Callable[[str, int], Step]] = {"nft": _nft, "iptables": _iptables}
