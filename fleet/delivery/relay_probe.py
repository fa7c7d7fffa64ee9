"""Does a relay answer? Asked over the SSH connection to its host, with the site's CA and the run's own password."""

import http.client
import socket
import ssl

from requests.auth import _basic_auth_str

from fleet.errors import HostError
from fleet.inventory.settings import Registry
from fleet.transport import Session

PATIENCE = 15.0  # seconds for one answer


def silence(session: Session, address: str, port: int, registry: Registry) -> str:
    """Why the relay at `address:port`, as its host sees it, does not serve us; "" where it does."""
    context = ssl.create_default_context(cafile=registry.ca_file)
    username = registry.username.reveal() if registry.username else ""
    password = registry.password.reveal() if registry.password else ""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        with (
            session.forward_local(port, address) as near,
            socket.create_connection(near, timeout=PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname=address) as secured,
        ):
            connection.sock = secured
            connection.request("GET", "/v2/", headers={"Authorization": _basic_auth_str(username, password)})
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException, HostError) as error:
        return f"it does not answer: {error or type(error).__name__}"
    return "" if status == http.client.OK else f"it answers {status}"
