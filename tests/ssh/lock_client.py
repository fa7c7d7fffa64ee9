"""A controller of its own for tests/ssh/test_locks.py: takes the lock, arms, says so, and beats until it is killed.

Arguments: port, key file, known_hosts, place, lease, shell, beat interval, the switch's shell command (empty = none).
"""

import sys
import time
from pathlib import Path

from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.locks import Heart, HostLock, Owner
from fleet.transport import Connector


def main() -> None:
    port, key, known, place, lease, shell, interval, command = sys.argv[1:]
    options = ("-F", "none")
    connection = Connection(address="127.0.0.1", port=int(port), user="root", key_file=key, common_args=options)
    with Connector(known_hosts=Path(known), accept_new=True) as connector, Heart(interval=float(interval)) as heart:
        session = connector.connect(Host("node", ("all",), connection, Settings()))
        owner = Owner("ann", "run-1", "laptop", 1_795_400_000)
        lock = HostLock.take(session, owner, lease=float(lease), place=place, shell=shell)
        heart.add(lock)
        if command:
            lock.arm((("sh", "-c", command),))
        sys.stdout.write("held\n")
        sys.stdout.flush()
        for line in sys.stdin:
            if line.strip() == "disarm":
                lock.disarm()
            elif line.strip() == "release":
                lock.release()
            elif line.strip() == "check":
                time.sleep(0.2)
                lock.check()
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
