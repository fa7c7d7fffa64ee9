"""SSH to the fleet: connect, run, stream, upload, tunnel, and the bounded fan-out.

    with Connector() as connector:
        session = connector.connect(host)
        session.run(("uname", "-r")).stdout

Built on fabric and paramiko, with OpenSSH's own configuration (`ssh -G`) as the source of how a host is reached.
"""

from fleet.transport.channel import Channel
from fleet.transport.connector import Connector
from fleet.transport.fanout import fan_out
from fleet.transport.output import Output
from fleet.transport.session import Session

__all__ = ["Channel", "Connector", "Output", "Session", "fan_out"]
