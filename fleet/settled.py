"""Facts of a host whose GPUs may just be getting their memory back."""

import time
from collections.abc import Callable

from fleet.facts import Facts, collect
from fleet.preflight.needs import Needs
from fleet.preflight.vram import dirty
from fleet.shell import Scripted

PAUSES = (1.0, 2.0, 4.0)  # seconds between looks; only a host that seems to leak pays for them


def settled(
    session: Scripted,
    needs: Needs,
    clock: Callable[[], float] = time.time,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Facts, float]:
    """Like collect, but memory that nobody holds is looked at again before it is believed. Raises HostError.

    With the facts comes this machine's time at the middle of the look, in seconds since the epoch.
    The kernel takes a process off its list before it frees its buffers, so a look in between finds memory in use and
    no holder. Source: Linux, drivers/gpu/drm/amd/amdkfd/kfd_process.c (kfd_process_wq_release).
    """
    for pause in (*PAUSES, None):
        before = clock()
        facts = collect(session, needs)
        now = (before + clock()) / 2
        if pause is None or all(one.holders for one in dirty(facts)):
            break
        sleep(pause)
    return facts, now
