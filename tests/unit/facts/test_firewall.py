"""Packet filters as nft and iptables-save print them, and what they do with a stranger's connection."""

import pytest

from fleet.facts import Facts, parse
from fleet.facts.admission import admits


def facts_of(kind: str, text: str, done: str = "T firewall.done\n") -> Facts:
    return parse(f"T start 1\nT firewall\nnft\nfirewalld\nT firewall.{kind}\n{text}\n{done}T end\n")


def nft(*rules: str, policy: str = "accept", rest: str = "") -> Facts:
    body = "\n".join(f"\t\t{rule}" for rule in rules)
    return facts_of(
        "nft",
        "table inet filter {\n\tset friends {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 }\n\t}\n"
        f"\tchain input {{\n\t\ttype filter hook input priority filter; policy {policy};\n{body}\n\t}}\n"
        f"\tchain forward {{\n\t\ttype filter hook forward priority filter; policy drop;\n\t}}\n{rest}}}",
    )


def iptables(*rules: str, policy: str = "ACCEPT") -> Facts:
    text = f"*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:OURS - [0:0]\n" + "\n".join(rules) + "\nCOMMIT"
    return facts_of("iptables", text)


ADMIN = 'log prefix "in: " reject with icmp type admin-prohibited'


@pytest.mark.parametrize(
    ("rules", "policy", "answer"),
    [
        ((), "accept", "open"),
        ((), "drop", "closed"),
        (("ct state established,related accept", 'iifname "lo" accept', "tcp dport 22 accept"), "drop", "closed"),
        (("tcp dport { 22, 8000-8100 } accept",), "drop", "open"),
        (("tcp dport 8000 ct state new counter accept",), "drop", "open"),
        (("meta l4proto tcp th dport 8000 accept",), "drop", "open"),
        (("udp dport 8000 accept", "icmp type echo-request accept", "ip6 nexthdr 6 accept"), "drop", "closed"),
        (("ip saddr 10.0.0.0/8 tcp dport 8000 accept",), "drop", "limited"),
        (('iifname "ib0" accept',), "drop", "limited"),
        (("tcp dport 8000 drop",), "accept", "closed"),
        (("tcp dport != 22 drop",), "accept", "closed"),
        (("ip saddr @friends accept", ADMIN), "accept", "limited"),
        (("ip saddr 192.0.2.7 drop",), "accept", "open"),
        (("ct state vmap { established : accept, related : accept, invalid : drop }",), "drop", "closed"),
        (("ct state vmap { established : accept, new : accept }",), "drop", "open"),
        (("tcp dport @allowed accept",), "drop", None),
        (("tcp dport vmap { 8000 : accept }",), "drop", None),
        (("jump ours", "drop"), "accept", "open"),
        (("ip saddr 10.0.0.0/8 jump ours",), "drop", "limited"),
        (("goto nowhere",), "drop", None),
        (("limit rate 10/second accept",), "drop", None),
    ],
)
def test_nft_rules_are_read_for_a_new_connection_to_8000(
    rules: tuple[str, ...], policy: str, answer: str | None
) -> None:
    facts = nft(*rules, policy=policy, rest="\tchain ours {\n\t\ttcp dport 8000 accept\n\t}\n")
    assert admits(facts.firewall, 8000) == answer


SEEN = ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -i lo -j ACCEPT")
REJECT = ("-A INPUT -j LOG --log-prefix x", "-A INPUT -j REJECT --reject-with icmp-port-unreachable")


@pytest.mark.parametrize(
    ("rules", "policy", "answer"),
    [
        ((), "ACCEPT", "open"),
        (SEEN, "DROP", "closed"),
        (('-A INPUT -p tcp -m tcp --dport 8000 -m comment --comment "the API" -j ACCEPT',), "DROP", "open"),
        (("-A INPUT -p tcp -m multiport --dports 80,7990:8010 -j ACCEPT",), "DROP", "open"),
        (("-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 8000 -j ACCEPT",), "DROP", "limited"),
        (("-A INPUT ! -s 10.0.0.0/8 -j DROP",), "DROP", "closed"),
        (REJECT, "ACCEPT", "closed"),
        (("-A INPUT -j OURS", "-A OURS -p tcp -m tcp --dport 8000 -j ACCEPT"), "DROP", "open"),
        (("-A INPUT -j OURS", "-A OURS -j RETURN", "-A OURS -j DROP"), "ACCEPT", "open"),
        (("-A INPUT -m string --string x -j ACCEPT",), "DROP", None),
    ],
)
def test_iptables_rules_are_read_alike(rules: tuple[str, ...], policy: str, answer: str | None) -> None:
    assert admits(iptables(*rules, policy=policy).firewall, 8000) == answer


def test_a_ruleset_that_is_cut_or_unreadable_is_no_answer() -> None:
    assert facts_of("nft", "", done="").firewall.chains is None
    assert nft(*["tcp dport 22 accept"] * 3000).firewall.chains is None
    foreign = facts_of("iptables", "*filter\n:INPUT ACCEPT [0:0]\n# Table `x' is incompatible, use 'nft' tool.")
    assert foreign.firewall.chains is None
    assert admits(foreign.firewall, 8000) is None
    assert foreign.firewall.tools == ("nft", "firewalld")


def test_only_chains_that_a_new_connection_may_meet_are_kept() -> None:
    facts = nft("jump ours", rest="\tchain ours {\n\t}\n\tchain other {\n\t}\n")
    assert [chain.name for chain in facts.firewall.chains or ()] == ["input", "ours"]


def test_a_set_over_several_lines_is_one_rule() -> None:
    assert admits(nft("tcp dport { 22,", "8000 } accept", policy="drop").firewall, 8000) == "open"


def test_rules_that_call_each_other_in_a_circle_end() -> None:
    facts = iptables("-A INPUT -j OURS", "-A OURS -j OURS", policy="DROP")
    assert admits(facts.firewall, 8000) is None
