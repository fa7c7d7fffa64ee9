"""Secrets that a command will need, tried before anything is touched: every missing one at once, where it was written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fleet.errors import FleetError, InputError, Problem
from fleet.inventory.model import Host
from fleet.secret import Secret


def require(hosts: Iterable[Host], *, services: bool = True, images: bool = True) -> None:
    """Raise InputError for all secrets of `hosts` that cannot be had. `services=False` leaves out those of services.

    `images=False` leaves out those that images are made and fetched with, for a run that brings them: what hosts pull with
    is still needed.
    """
    problems: dict[Secret, Problem] = {}
    good: set[Secret] = set()
    for host in hosts:
        needed = _within(host.connection), _within(host.settings)
        own = {secret for service in host.settings.services.values() for secret in service.secrets.values()}
        of_images = set(_of_images(host))
        for secret in (one for part in needed for one in part):
            if secret in good or secret in problems or (secret in own and not services):
                continue
            if not images and secret in of_images:
                continue
            try:
                secret.reveal()
            except FleetError as error:
                problems[secret] = _problem(host, secret, error)
            else:
                good.add(secret)
    if problems:
        raise InputError(*problems.values())


def _of_images(host: Host) -> Iterator[Secret]:
    """Secrets of a host's images, and of the registries that it does not pull from itself."""
    settings, services = host.settings, host.settings.services.values()
    yield from _within((settings.image, *(one.image for one in services)))
    ours = set(_within((settings.registry, *(one.registry for one in services))))
    if settings.delivery != "registry":
        yield from ours
    yield from set(_within(settings.registries)) - ours


def variables(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Names of the environment variables that secrets of these hosts are in, sorted."""
    own = (secret for host in hosts for part in (host.connection, host.settings) for secret in _within(part))
    return tuple(sorted({secret.env for secret in own if secret.env}))


def _within(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif is_dataclass(value):
        for item in fields(value):
            yield from _within(getattr(value, item.name))
    elif isinstance(value, Mapping | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _within(inner)


def _problem(host: Host, secret: Secret, error: FleetError) -> Problem:
    said = error.message.removeprefix(f"secret {secret.label}: ")
    at = next((at for path, at in host.origins.items() if f"{path}.".startswith(f"{secret.label}.")), None)
    if at is None:
        return Problem(host.name, 0, 0, secret.label, said, error.hint)
    return Problem(at.file, at.line, at.col, secret.label, said, error.hint)
