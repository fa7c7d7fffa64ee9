"""What the services ask for: models, ports, and who else is there."""

from fleet.facts.model import Container, Facts, Listener
from fleet.preflight.checks.words import some
from fleet.preflight.needs import Needs
from fleet.preflight.registry import Blind, Result, checks

MOUNT = "/app/models/"
OPEN = ("0.0.0.0", "::", "*", "")  # noqa: S104  recognised, not bound


@checks("models_dir")
def models_dir(facts: Facts, needs: Needs) -> Result:
    if not needs.services:
        return None
    space = facts.space.get("models")
    if space is None:
        return Blind(f"whether {needs.models_dir} exists")
    return None if space.exists else f"there is no {needs.models_dir}"


@checks("model_present")
def model_present(facts: Facts, needs: Needs) -> Result:
    if not needs.services:
        return None
    if facts.models is None:
        return Blind(f"the models in {needs.models_dir}")
    complete = {model.name for model in facts.models if model.weights}
    missing = [
        f"{service.name} wants {service.model}"
        for service in needs.services
        if service.model.removeprefix(MOUNT).strip("/") not in complete
    ]
    there = ", ".join(sorted(complete)) or "none"
    return f"{some(missing)}; {needs.models_dir} has: {there}" if missing else None


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
def api_exposed(_facts: Facts, needs: Needs) -> Result:
    bare = [
        f"{service.name} on {service.host or '*'}:{service.ports[0]}"
        for service in needs.services
        if service.host in OPEN and not service.guarded and service.host_network
    ]
    return f"no API key: {some(bare)}" if bare else None


@checks("engine_limits")
def engine_limits(facts: Facts, needs: Needs) -> Result:
    if not needs.services:
        return None
    limit = facts.tuning.engine_nofile
    if limit is None:
        return Blind("the limits of dockerd (/run/docker.pid)")
    above = [service.name for service in needs.services if limit != -1 and service.nofile > limit]
    return f"dockerd may open {limit} files, and {some(above)} ask for more" if above else None
