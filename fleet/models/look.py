"""Reading what of models lies on a host. Changes nothing; hashes there what no list tells."""

import io
from collections.abc import Iterable, Mapping, Sequence

from fleet.delivery.send import Sender
from fleet.errors import HostError
from fleet.models import scripts
from fleet.models.content import Content, parse_listing
from fleet.models.held import Ground, parse

STALL = 300.0  # seconds in which a script that reads files may say nothing


def look(sender: Sender, directory: str, names: Iterable[str] = ()) -> Ground:
    """These models, or all that are there. Raises HostError."""
    place = directory.rstrip("/") or "/"
    code, said, complaint = sender.run(scripts.LOOK, (place, *names), None, STALL)
    if code:
        raise HostError(sender.host, f"{place} could not be looked at (exit {code})", tail=(complaint,))
    return parse(place, said.splitlines())


def compare(sender: Sender, directory: str, wanted: Mapping[str, Content], *, everything: bool = False) -> Ground:
    """The models that are wanted, with the checksums that it takes to compare them; `everything`: no list is believed."""
    ground = look(sender, directory, wanted)
    for name, content in wanted.items():
        model = ground.model(name)
        unsure = model.unsure(content, everything=everything)
        if unsure:
            ground = ground.with_model(model.hashed(hashed(sender, ground.directory, name, unsure)))
    return ground


def hashed(sender: Sender, directory: str, name: str, paths: Sequence[str]) -> dict[str, str]:
    """Path -> sha256 in hex of a model's files, as the host reads them; what it could not read is "". Raises HostError."""
    words = "".join(f"{path}\n" for path in paths).encode()
    code, said, complaint = sender.run(scripts.HASH, (directory, name), io.BytesIO(words), STALL)
    if code:
        raise HostError(sender.host, f"{directory}/{name} could not be read (exit {code})", tail=(complaint,))
    found = parse_listing(said.splitlines())
    return {path: found.get(path, "") for path in paths}
