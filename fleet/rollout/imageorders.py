"""The images that hosts ask for, each once, and for whom. Pure, but for certificates' files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.errors import FleetError
from fleet.facts.cards import gfx_of_model
from fleet.image.strategy import narrowed
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Image, Registry, Settings
from fleet.rollout.images import pulls_from, registry_of
from fleet.rollout.relays import registry_images


@dataclass(frozen=True)
class Order:
    """One image to have, for which hosts and services. `published`: some host pulls it from `registry`."""

    image: Image
    registry: Registry | None
    builder: str
    staging: str
    published: bool
    wanted_by: tuple[tuple[str, str], ...]  # (host, service); a registry for relays is for no service: ""
    registries: Mapping[str, Registry] = field(default_factory=dict)  # others that images come from, by host
    handed: bool = False  # some host would get it from the builder itself


def orders(hosts: Iterable[Host]) -> tuple[Order, ...]:
    """Every distinct image of the hosts' services, once. Pure. Raises FleetError for a service without an image."""
    found: dict[str, Order] = {}
    for host in hosts:
        settings = host.settings
        for service in settings.services.values():
            image, registry = image_of(settings, service.image, host.name, service.name), registry_of(settings, service)
            key = repr((image, registry, settings.builder, settings.registries))
            published = pulls_from(settings, service) is not None
            first = Order(image, registry, settings.builder, settings.staging_dir, False, (), settings.registries)
            before = found.get(key, first)
            found[key] = replace(
                before,
                published=before.published or published,
                handed=before.handed or (not published and settings.sideload.from_builder),
                wanted_by=(*before.wanted_by, (host.name, service.name)),
            )
    return tuple(found.values())


def relay_orders(hosts: Iterable[Host]) -> tuple[Order, ...]:
    """Every distinct image of a registry that one of the hosts may have to run as a relay, once. Pure."""
    hosts = tuple(hosts)
    by_name = {host.name: host.settings for host in hosts}
    return tuple(
        Order(image, None, "", "", False, tuple((name, "") for name in names), by_name[names[0]].registries)
        for image, names in registry_images(hosts).items()
    )


def image_of(settings: Settings, own: Image | None, host: str, service: str) -> Image:
    """A service's image: its own, else the host's; a name that is missing comes from the host's."""
    image = own or settings.image
    if image is None:
        raise FleetError(f"{host}: service {service} has no image", hint="set fleet.image, or image under the service")
    name = image.name or (settings.image.name if settings.image else "")
    return _one_way(replace(image, name=name or "vllm-rocm"))


def declared_gfx(inventory: Inventory) -> tuple[str, ...]:
    """The gfx targets of all GPUs that the whole inventory declares, never of a selection: a build serves everybody."""
    models = {host.settings.gpus.model for host in inventory.hosts.values()}
    return tuple(sorted({gfx for model in models if model and (gfx := gfx_of_model(model))}))


def wants(settings: Settings, image: Image) -> bool:
    """Does a service of a host with these settings run the image of an order?"""
    own = [service.image or settings.image for service in settings.services.values()]
    return any(one is not None and _one_way(replace(one, name=image.name)) == image for one in own)


def wanting(inventory: Inventory, image: Image) -> list[Host]:
    """All hosts that want it, whatever was selected."""
    return [host for host in inventory.hosts.values() if wants(host.settings, image)]


def _one_way(image: Image) -> Image:
    """A strategy that is no question is answered at once."""
    return narrowed(image, image.strategy)


def certificates(hosts: Mapping[str, Host]) -> dict[str, str]:
    """The CA of every registry that a host pulls from, as text, from the inventory's files."""
    found: dict[str, str] = {}
    for host in hosts.values():
        for service in host.settings.services.values():
            registry = pulls_from(host.settings, service)
            if registry is not None and registry.ca_file and registry.host not in found:
                try:
                    found[registry.host] = Path(registry.ca_file).read_text(encoding="utf-8")
                except OSError as error:
                    raise FleetError(
                        f"cannot read the CA of {registry.host}, {registry.ca_file}: {error.strerror}"
                    ) from error
    return found
