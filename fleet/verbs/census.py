"""`images`: which image is which, on every host."""

from collections.abc import Mapping

from fleet.engine import docker_client
from fleet.errors import HostError
from fleet.image import lock as locks
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.options import Options
from fleet.report import errors, images, terminal
from fleet.rollout.census import Seen, census, read
from fleet.rollout.goback import cached
from fleet.rollout.past import READ_SERVED, understand
from fleet.survey import each
from fleet.transport import Session
from fleet.verbs.common import ROOT, active, connected, inventory_and_hosts, some


def show_images(options: Options, *, everything: bool) -> int:
    """Ask every host that `fleet:` gives a part, the builder too. Changes nothing."""
    inventory, chosen = inventory_and_hosts(options)
    hosts = some(active(chosen))
    known, tags = cached(ROOT), locks.read(inventory.lock_path).images

    def ask(session: Session) -> tuple[Seen, ...]:
        return _census(session, known, tags)

    with connected(options) as connector, terminal.counting("images", len(hosts)) as done:
        answers = each(hosts, connector, ask, forks=options.forks, on_done=done)
    failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
    found = {name: one for name, one in answers.items() if not isinstance(one, HostError)}
    if options.json:
        terminal.show_json({"hosts": images.document(found), "failed": errors.document(failed)})
    else:
        images.show(found, everything=everything)
        terminal.show_failures(failed)
    return 1 if failed else 0


def _census(session: Session, known: Mapping[str, Release], tags: Mapping[str, str]) -> tuple[Seen, ...]:
    told = session.script(READ_SERVED, sudo=True).stdout.splitlines()
    _, releases = understand(told, f"a record of {session.host.name}")
    listed, users = read(docker_client(session), session.host.name)
    return census(listed, users, {**known, **releases}, _names(session.host), tags)


def _names(host: Host) -> frozenset[str]:
    """What our images are called on this host, by its inventory."""
    settings = host.settings
    asked = (settings.image, *(service.image for service in settings.services.values()))
    return frozenset(one.name or "vllm-rocm" for one in asked if one is not None)
