"""What the services ask for: ports, who else is there, and who may reach them."""

from fleet.facts.admission import admits
from fleet.facts.model import Container, Facts, Listener
from fleet.preflight.checks.words import some
from fleet.preflight.needs import Needs, ServiceNeeds
from fleet.preflight.registry import Blind, Result, checks

OPEN = ("0.0.0.0", "::", "*", "")  # noqa: S104  recognised, not bound


@checks("port_free")
def port_free(facts: Facts, needs: Needs) -> Result:
    if not needs.services:
        return None
    if facts.listeners is None:
        return Blind("the listening ports")
    taken = []
    for service in needs.services:
        for port in service.ports:
            listener = next((entry for entry in facts.listeners if entry.port == port), None)
            if listener is not None and (owner := _stranger(facts, needs, listener, service.name)):
                taken.append(f"port {port} of {service.name} is taken by {owner}")
    return some(taken) or None


def _stranger(facts: Facts, needs: Needs, listener: Listener, service: str) -> str:
    """Who holds the port, or empty when it is ours or may be taken over."""
    containers = facts.docker.containers or ()
    owner = next((c for c in containers if c.id == listener.container or listener.port in c.ports), None)
    if owner is None and listener.pid is None:
        # Without root nobody sees the owner; a running container of the service is as good a guess as there is.
        owner = next((c for c in containers if c.service == service), None)
    if owner is not None:
        return "" if owner.service or owner.name in needs.take_over else _described(owner)
    if listener.pid is None:
        return f"a process that only root can see, on {listener.address}"
    return f"pid {listener.pid}: {listener.command or 'unknown command'}"


def _described(container: Container) -> str:
    return f"container {container.name} ({container.image}): {container.command or 'no command'}"


@checks("ports_distinct")
def ports_distinct(_facts: Facts, needs: Needs) -> Result:
    seen: dict[int, str] = {}
    clashes = []
    for service in needs.services:
        for port in service.ports:
            if port in seen:
                clashes.append(f"{seen[port]} and {service.name} both want port {port}")
            seen[port] = service.name
    return some(clashes) or None


@checks("api_exposed")
def api_exposed(facts: Facts, needs: Needs) -> Result:
    """A firewall in front counts only where it can be read and lets not everybody in."""
    bare = []
    for service in _public(needs):
        answers = {port: admits(facts.firewall, port) for port in service.ports if not service.guarded}
        worst = next((port for port, answer in answers.items() if answer in ("open", None)), None)
        if worst is not None:
            known = "lets everybody in" if answers[worst] == "open" else "could not be read"
            bare.append(f"{service.name} on {service.host or '*'}:{worst}, and the host's firewall {known}")
    return f"no API key: {some(bare)}" if bare else None


@checks("port_blocked")
def port_blocked(facts: Facts, needs: Needs) -> Result:
    shut = [
        f"{service.name} on port {port}"
        for service in _public(needs)
        for port in service.ports
        if admits(facts.firewall, port) == "closed"
    ]
    return f"the host's firewall lets nobody in to {some(shut)}" if shut else None


def _public(needs: Needs) -> list[ServiceNeeds]:
    """Services that listen on every address of the host itself; a bridge's ports pass by another chain."""
    return [service for service in needs.services if service.host in OPEN and service.host_network]


@checks("engine_limits")
def engine_limits(facts: Facts, needs: Needs) -> Result:
    if not needs.services:
        return None
    limit = facts.tuning.engine_nofile
    if limit is None:
        return Blind("the limits of dockerd (/run/docker.pid)")
    above = [service.name for service in needs.services if limit != -1 and service.nofile > limit]
    return f"dockerd may open {limit} files, and {some(above)} ask for more" if above else None
