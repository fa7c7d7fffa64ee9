"""Bringing the images to the hosts: side by side, a registry's pulls bounded, every host for itself."""

import threading
from collections.abc import Mapping

from fleet.delivery.execute import Way, carry_out
from fleet.image.layout import LayoutImage, read
from fleet.image.workshop import ensure_layout
from fleet.inventory.model import Host
from fleet.inventory.settings import Registry
from fleet.rollout.images import pulls_from
from fleet.rollout.releases import Stock
from fleet.rollout.run import Outcome, Run, going, note, site_of
from fleet.rollout.site import Site
from fleet.transport import fan_out


def distribute(run: Run, outcomes: Mapping[str, Outcome], stock: Stock) -> None:
    """Bring the images to every host that is ready for them, side by side, a registry's pulls bounded."""
    slots: dict[str, threading.Semaphore] = {}
    layouts = threading.Lock()
    for outcome in going(outcomes):
        for registry in _registries(outcome):
            slots.setdefault(registry.host, threading.Semaphore(registry.parallel_pulls))

    def bring(host: Host) -> int:
        outcome = outcomes[host.name]
        site = site_of(outcome)
        if not any(step.changes for step in site.plan.images):
            return 0
        registries = _registries(outcome)
        held = slots[registries[0].host] if registries else threading.Semaphore(1)
        with held:
            for step in site.plan.images:
                if step.changes:
                    run.say(host.name, step.what)
            return carry_out(site.plan.images, _way(run, site, stock, layouts))

    for name, result in fan_out([site_of(one).host for one in going(outcomes)], bring, forks=run.forks).items():
        note(outcomes[name], result)


def _registries(outcome: Outcome) -> list[Registry]:
    settings = site_of(outcome).host.settings
    found = [pulls_from(settings, service) for service in settings.services.values()]
    return [registry for registry in found if registry is not None]


def _way(run: Run, site: Site, stock: Stock, lock: threading.Lock) -> Way:
    settings = site.host.settings
    registry = next((r for s in settings.services.values() if (r := pulls_from(settings, s))), None)

    def auth() -> Mapping[str, str] | None:
        if registry is None or registry.username is None or registry.password is None:
            return None
        return {"username": registry.username.reveal(), "password": registry.password.reveal()}

    def layout(name: str) -> LayoutImage:
        release = next(one for one in run.wishes.releases[site.host.name].values() if one.local_name == name)
        with lock:  # two hosts that want the same layout fetch it once
            ensure_layout(stock.workshops[release.id], release)
        return read(stock.store.layout_path(release))

    return Way(
        site.host.name, site.session, site.client, registry.ca_file if registry else "", auth, layout, seam=run.seam
    )
