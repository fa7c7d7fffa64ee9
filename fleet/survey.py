"""Ask every host once: connect, probe, and give back facts or the reason why there are none."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fleet.errors import HostError
from fleet.facts import Facts, collect
from fleet.inventory.model import Host
from fleet.preflight import Finding, Needs, check, needs_of
from fleet.preflight.needs import ImageFacts
from fleet.transport import Connector, fan_out


@dataclass(frozen=True)
class Answer:
    """What one host said, and the judgement on it."""

    facts: Facts
    needs: Needs
    findings: tuple[Finding, ...]


def survey(
    hosts: Iterable[Host],
    connector: Connector,
    *,
    forks: int,
    image: Callable[[Host], ImageFacts | None] = lambda _host: None,
    on_done: Callable[[str], None] = lambda _host: None,
) -> dict[str, Answer | HostError]:
    """Facts and findings of each host, at most `forks` at once. One bad host never spoils the others."""

    def ask(host: Host) -> Answer:
        session = connector.connect(host)
        try:
            before = time.time()
            facts = collect(session, needs_of(host, image(host), before))
            needs = needs_of(host, image(host), (before + time.time()) / 2)
            return Answer(facts, needs, check(facts, needs))
        finally:
            session.close()

    return fan_out(tuple(hosts), ask, forks=forks, on_done=lambda host, _result: on_done(host.name))
