"""A controller of its own for the tests of locks: takes the lock, arms, says so, and beats until it is killed.

Its argument is a JSON object: Connection's fields under `connection`, `become`, `known_hosts`, HostLock.take's options
under `options`, the heart's `interval`, and `commands` of the switch. It obeys words on standard input.
"""

import json
import sys
import time
from pathlib import Path

from fleet.inventory.model import Become, Connection, Host
from fleet.inventory.settings import Settings
from fleet.locks import Heart, HostLock, Owner
from fleet.transport import Connector


def main() -> None:
    wanted = json.loads(sys.argv[1])
    fields = wanted["connection"] | {"common_args": tuple(wanted["connection"]["common_args"])}
    host = Host("node", ("all",), Connection(**fields, become=Become(enabled=wanted["become"])), Settings())
    known = wanted["known_hosts"]
    with (
        Connector(known_hosts=Path(known) if known else None, accept_new=bool(known)) as connector,
        Heart(interval=wanted["interval"]) as heart,
    ):
        owner = Owner("ann", "run-1", "laptop", 1_795_400_000)
        lock = HostLock.take(connector.connect(host), owner, **wanted["options"])
        heart.add(lock)
        if wanted["commands"]:
            lock.arm(wanted["commands"])
        answer("held")
        for line in sys.stdin:
            match line.strip():
                case "disarm":
                    lock.disarm()
                case "release":
                    lock.release()
                case "check":
                    time.sleep(0.2)
                    lock.check()
            answer("done")


def answer(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
