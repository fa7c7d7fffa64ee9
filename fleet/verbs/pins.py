"""`releases.pin` and `releases.unpin`: what the stage prune leaves alone."""

import getpass
import platform
import re
import time

from fleet.errors import HostError, UsageError
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.options import Options
from fleet.report import errors, terminal
from fleet.rollout.pins import SetPin, put
from fleet.seam import Bare
from fleet.transport import Connector, fan_out
from fleet.verbs.common import connected, selected, serving
from fleet.verbs.releases import known_releases


def set_pin(options: Options, text: str, *, pin: bool, reason: str = "") -> int:
    """Pin a release on every selected host that serves, or take the pin away. Hosts where it is so already are kept."""
    (release,), found, failed = known_releases(options, (text,))
    hosts = [host for host in serving(selected(options)) if host.name in found]
    step = _step(release, pin=pin, reason=reason)
    differing = [host for host in hosts if (release.id in found[host.name].pinned) != pin]
    if not options.check:
        with connected(options) as connector:
            failed |= _carry_out(differing, step, connector, options.forks)
    changed = [host.name for host in differing if host.name not in failed]
    if options.json:
        document = {"release": release.local_name, "pinned": pin, "check": options.check, "changed": changed}
        terminal.show_json({**document, "failed": errors.document(failed)})
    else:
        for host in hosts:
            if host.name in changed:
                terminal.host_line(host.name, f"would {step.what}" if options.check else f"{step.what}: done")
            elif host.name not in failed:
                terminal.host_line(host.name, f"{release.local_name} is {'pinned' if pin else 'not pinned'} already")
        terminal.show_failures(failed)
    return 1 if failed else 0


def _step(release: Release, *, pin: bool, reason: str) -> SetPin:
    if not re.fullmatch("[0-9a-f]{12}", release.id):  # it comes from a record, and becomes a file's name
        raise UsageError(f"the record of {release.name} names no digest: {release.manifest_digest!r}")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "somebody"
    by = f"by {user} on {platform.node()}"
    return SetPin(release.id, release.local_name, pin, f"{reason}, {by}" if reason else by)


def _carry_out(hosts: list[Host], step: SetPin, connector: Connector, forks: int) -> dict[str, HostError]:
    def work(host: Host) -> None:
        with connector.visiting(host) as session:
            Bare().perform(host.name, step, lambda: put(session, step, time.time()))

    results = fan_out(hosts, work, forks=forks)
    return {name: one for name, one in results.items() if isinstance(one, HostError)}
