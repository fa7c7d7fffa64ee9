"""Asks OpenSSH's own `ssh -G` how a host is reached: Include, Match and all."""

import functools
import subprocess
from dataclasses import replace

from fleet.errors import UnreachableError
from fleet.inventory.model import Host
from fleet.transport.target import Hop, Target, behind, config_file_of, hop_query, parse, query


def resolve(host: Host) -> Target:
    """The Target of an inventory host. Raises UnreachableError with ssh's own words for bad options."""
    connection = host.connection
    target = parse(
        host.name,
        connection.address.strip("[]"),
        _ask(host.name, query(connection)),
        config_file=config_file_of(connection.common_args),
        password=connection.password,
    )
    if connection.password is None or target.identities:
        return target
    # With a password and no key of its own, default keys only burn sshd's MaxAuthTries.
    return replace(target, fallback_identities=())


def resolve_hop(hop: Hop, host: Target) -> Target:
    """The Target of a jump host in front of `host`."""
    name = hop.destination.rpartition("@")[2].strip("[]")
    printed = _ask(host.label, hop_query(hop, host.config_file))
    return behind(parse(f"bastion {hop}", name, printed, config_file=host.config_file), host)


def _ask(host: str, command: tuple[str, ...]) -> str:
    printed, complaint = _run(command)
    if complaint:
        hint = "see ansible_ssh_common_args and ~/.ssh/config"
        raise UnreachableError(host, f"ssh does not understand how to reach it: {complaint}", hint=hint)
    return printed


@functools.lru_cache(maxsize=4096)
def _run(command: tuple[str, ...]) -> tuple[str, str]:
    """What ssh printed, and what it complained of."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return "", "there is no `ssh` here (apt-get install openssh-client)"
    except subprocess.TimeoutExpired:
        return "", "`ssh -G` did not answer in 30 s (a `Match exec` that hangs?)"
    if done.returncode:
        return "", done.stderr.strip().replace("\n", "; ") or f"`ssh -G` exited with {done.returncode}"
    return done.stdout, ""
