"""The server of a depot: it runs on the builder as long as the channel to it is open, and is entered by a password of the run."""

import ipaddress
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fleet.delivery import depot_server, scripts
from fleet.delivery.download import logged_in
from fleet.delivery.site_ca import SiteCa
from fleet.errors import FleetError
from fleet.image.machine import There
from fleet.image.scratch import temporary
from fleet.transport.channel import Channel

USER = "fleet"
START = 60.0  # seconds for the container to listen

# $1 staging directory, $2 an image with Python, $3 the server
SERVE = (
    scripts.SAFE
    + r"""
umask 077
depot=$1/build-depot
mkdir -p -- "$depot" && safe "$depot" || { echo "$depot belongs to somebody else" >&2; exit 67; }
docker run --rm --interactive --pull never --log-driver none --label io.fleet.depot=1 --network host --read-only \
  --user "$(id -u):$(id -g)" --cap-drop ALL --security-opt no-new-privileges --security-opt label=disable \
  --volume "$depot:/depot:ro" --entrypoint python3 "$2" -c "$3" /depot
code=$?
rmdir -- "$depot" 2>/dev/null  # a plan leaves no directory
exit "$code"
"""
)


@dataclass(frozen=True)
class Door:
    """A server that runs: curl's settings with the password, and the certificate that alone is trusted."""

    settings: str = field(repr=False)
    ca: str
    channel: Channel


def open_door(machine: There, inside: tuple[str, str], where: tuple[str, int], rate: float) -> Door:
    """Start the server in a container of an image: `inside` are the staging directory and the image's name. `where` is the
    address and the port that it listens at; a name for an address is every address. Raises FleetError, OSError.
    """
    address, port = where
    password = secrets.token_urlsafe(32)
    with temporary("fleet-depot-") as folder:
        ca, now = SiteCa(folder), datetime.now(UTC)
        ca.ensure(now)
        certificate, key = ca.server(address, now)
        trusted = ca.certificate.read_text("ascii")
    told = {
        "address": address if _is_number(address) else "",
        "port": port,
        "user": USER,
        "password": password,
        "limit": rate,
        "certificate": certificate.decode(),
        "key": key.decode(),
    }
    server = Path(depot_server.__file__).read_text("utf-8")
    channel = machine.start(("sh", "-c", SERVE, "sh", *inside, server))
    try:
        _begin(channel, json.dumps(told).encode() + b"\n")
    except BaseException:
        channel.close()
        raise
    return Door(logged_in(f"{USER}:{password}"), trusted, channel)


def _begin(channel: Channel, told: bytes) -> None:
    """Tell the server what it needs and wait until it listens."""
    channel.settimeout(START)
    channel.sendall(told)
    said = b""
    while depot_server.READY.encode() not in said:
        piece = channel.recv(4096)
        if not piece:
            lines = channel.recv_stderr(1 << 14).decode(errors="replace").strip().splitlines()
            raise FleetError(lines[-1] if lines else "it ended without a word")
        said += piece


def _is_number(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
