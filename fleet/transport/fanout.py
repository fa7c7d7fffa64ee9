"""Many hosts at once, bounded: every host finishes, every failure is kept by name, Ctrl-C ends at once."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from fleet.awake import next_of
from fleet.errors import FleetError, HostError
from fleet.inventory.model import Host

T = TypeVar("T")
Done = Callable[[Host, object], None]


def fan_out(
    items: Sequence[Host], work: Callable[[Host], T], *, forks: int, on_done: Done | None = None
) -> dict[str, T | HostError]:
    """Run `work` for each host, at most `forks` at a time; results by host name in the order of `items`.

    `on_done(host, result)` is called in the caller's thread. Threads are daemons: after Ctrl-C the KeyboardInterrupt
    leaves here at once, nothing new starts, and closing the Connector ends what is still under way.
    """
    todo: queue.SimpleQueue[Host] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Host, T | HostError]] = queue.SimpleQueue()
    stop = threading.Event()
    for host in items:
        todo.put(host)

    def worker() -> None:
        while not stop.is_set():
            try:
                host = todo.get_nowait()
            except queue.Empty:
                return
            done.put((host, _attempt(work, host)))

    found: dict[str, T | HostError] = {}
    try:
        for number in range(min(max(forks, 1), len(items))):
            threading.Thread(target=worker, name=f"fleet-{number}", daemon=True).start()
        for _ in items:
            host, result = next_of(done)
            found[host.name] = result
            if on_done is not None:
                on_done(host, result)
    finally:
        stop.set()
    return {host.name: found[host.name] for host in items}


def _attempt(work: Callable[[Host], T], host: Host) -> T | HostError:
    try:
        return work(host)
    except HostError as error:
        return error
    except FleetError as error:
        return _chained(HostError(host.name, error.message, hint=error.hint), error)
    except BaseException as error:  # noqa: BLE001  a worker that dies silently would hang the fleet
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = "this is a mistake in fleet; run again with FLEET_DEBUG=1 for the traceback"
        return _chained(HostError(host.name, f"unexpected {what}", hint=hint), error)


def _chained(error: HostError, cause: BaseException) -> HostError:
    error.__cause__ = cause
    return error
