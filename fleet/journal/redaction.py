"""A redactor that knows every secret which an inventory names for some hosts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

from fleet.errors import FleetError
from fleet.inventory.model import Host
from fleet.secret import Secret
from fleet.serving.secrets import Redactor

USERNAMES = frozenset({"username", "git_username"})
SHORT = 16  # characters; a token that stands in a username's place is longer


def redactor_for(hosts: Iterable[Host]) -> Redactor:
    """Reveals each secret of the hosts' settings and connections once. One that cannot be read is left out: whoever
    needs it will say so in words. A short username is a word that paths and messages are full of, and stays.
    """
    found = {
        (one.env, one.file, one.command, one.literal, name in USERNAMES): one
        for host in hosts
        for name, one in (*_within(host.settings), *_within(host.connection))
    }
    values = ((key[-1], _reveal(one)) for key, one in found.items())
    return Redactor(value for named, value in values if value and not (named and len(value) < SHORT))


def _within(value: object, name: str = "") -> Iterator[tuple[str, Secret]]:
    """(field that holds it, secret)."""
    if isinstance(value, Secret):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _within(getattr(value, field.name), field.name)
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
