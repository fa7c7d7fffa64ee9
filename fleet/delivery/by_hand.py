"""What an administrator has to do where nobody of ours is root: lines to copy and run. Pure."""

import shlex
from pathlib import Path

from fleet.delivery.plan import ca_path
from fleet.inventory.model import Connection


def place_ca(connection: Connection, user: str, registry: str, ca_file: str) -> tuple[str, str]:
    """Two lines: one to run here, as us, and one to run on the host, as root.

    The file waits in the login user's home, where no third user can exchange it.
    """
    name = f"{registry.replace(':', '-')}-ca.crt"
    words = ["scp", *connection.common_args]
    if connection.port is not None:
        words += ["-P", str(connection.port)]
    if connection.key_file:
        words += ["-i", connection.key_file]
    address = f"[{connection.address}]" if ":" in connection.address else connection.address
    source = str(Path(ca_file).expanduser().absolute())
    here = shlex.join([*words, source, f"{user}@{address}:{name}"])
    return here, f"install -D -m 644 ~{user}/{name} {ca_path(registry)}"
