"""The lock of a host, held by a process on the host, with a dead man's switch.

with Heart() as heart, HostLock.take(session, Owner.here(run)) as lock:
    heart.add(lock)
    lock.arm((("docker", "stop", "chat-0-new"), WAIT_GPUS_IDLE, ("docker", "start", "chat-0")))
    ...
    lock.check()  # before every effect
    lock.disarm()
"""

from fleet.locks.heart import Heart
from fleet.locks.lock import HostLock
from fleet.locks.look import holder_of, unlock
from fleet.locks.owner import Holder, LockedError, Owner
from fleet.locks.program import WAIT_ENGINE, WAIT_GPUS_IDLE, Commands

__all__ = [
    "WAIT_ENGINE",
    "WAIT_GPUS_IDLE",
    "Commands",
    "Heart",
    "Holder",
    "HostLock",
    "LockedError",
    "Owner",
    "holder_of",
    "unlock",
]
