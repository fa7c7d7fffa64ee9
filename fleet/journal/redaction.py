"""A redactor that knows every secret which an inventory names for some hosts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

from fleet.errors import FleetError
from fleet.inventory.model import Host
from fleet.secret import Secret
from fleet.serving.secrets import Redactor


def redactor_for(hosts: Iterable[Host]) -> Redactor:
    """Reveals each secret of the hosts' settings and connections once. One that cannot be read is left out: whoever
    needs it will say so in words.
    """
    distinct = {(one.env, one.file, one.command, one.literal): one for host in hosts for one in _secrets_of(host)}
    return Redactor(value for one in distinct.values() if (value := _reveal(one)))


def _secrets_of(host: Host) -> Iterator[Secret]:
    yield from _within(host.settings)
    yield from _within(host.connection)


def _within(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _within(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _within(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _within(one)


def _reveal(secret: Secret) -> str:
    try:
        return secret.reveal()
    except FleetError:
        return ""
