"""`logs` and `shell`: what a service's containers print, and a bash inside one of them."""

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import docker
import docker.errors

from fleet.engine import docker_client, engine_errors
from fleet.errors import HostError, UsageError
from fleet.inventory.model import Host
from fleet.options import Options
from fleet.report import terminal
from fleet.transport import Session, fan_out
from fleet.transport.lines import Lines
from fleet.transport.slots import MOST
from fleet.verbs.common import connected, inventory_and_hosts


class _ReaderLeft(Exception):  # noqa: N818
    """Whoever read our standard output has closed it."""


def logs(options: Options, words: Sequence[str], *, follow: bool, tail: int) -> int:
    """The log of containers on the selected hosts, each line with its host, and with its container where it has several.

    `words` are services (all their containers) or single containers, `chat-0`. Everything goes through the Docker API,
    on channels of the connection: the host keeps no process that would outlive us. `tail` is in lines, below 0: all.
    """
    _, chosen = inventory_and_hosts(options)
    hosts = _having(chosen, words)
    if follow:
        _check_number(hosts, words)
    gate = threading.Semaphore(max(options.forks, 1))  # followed hosts never finish, so all of them take part at once

    def show(host: Host) -> None:
        names = _names(host, words)
        with gate:
            session = connector.connect(host)
            client = docker_client(session)
            there = tuple(name for name in names if _state(session, client, name))
        missing = [_absent(host, name) for name in names if name not in there]
        for error in missing if follow else ():
            terminal.event(host.name, str(error))  # the end of the command may be far
        shows = [_shower(session, client, name, len(names) > 1, follow, tail) for name in there]
        if follow:
            _side_by_side(shows)
        else:
            for one in shows:
                one()
        for error in missing:
            raise error

    with connected(options) as connector:
        found = fan_out(hosts, show, forks=len(hosts) if follow else options.forks, on_done=_leave_with_reader)
    failed = {name: error for name, error in found.items() if isinstance(error, HostError)}
    terminal.show_failures(failed)
    return 1 if failed else 0


def shell(options: Options, word: str) -> int:
    """A bash in a service's first container, or in the one named, on the one selected host.

    Interactive on a terminal; otherwise it reads its commands from our standard input.
    """
    _, chosen = inventory_and_hosts(options)
    hosts = _having(chosen, (word,))
    if len(hosts) != 1:
        names = ", ".join(host.name for host in hosts[:3]) + (", …" if len(hosts) > 3 else "")
        raise UsageError(f"shell takes one host, and {len(hosts)} are selected: {names}", hint="--limit HOST")
    host = hosts[0]
    name = _names(host, (word,))[0]
    with connected(options) as connector:
        session = connector.connect(host)
        state = _state(session, docker_client(session), name)
        if not state:
            raise _absent(host, name)
        if state != "running":
            raise HostError(
                host.name, f"{name} is {state}, not running", hint=f"invoke serve --limit {host.name} starts it"
            )
        terminal = sys.stdin.isatty()
        flags = ("--interactive", "--tty") if terminal else ("--interactive",)
        return session.interact(("docker", "exec", *flags, name, "bash"), sudo=True, terminal=terminal)


def _having(hosts: Iterable[Host], words: Sequence[str]) -> tuple[Host, ...]:
    """Those that have one of them. Raises UsageError for a word that means nothing on any selected host."""
    all_of_them = tuple(hosts)
    for word in words:
        if not any(_names(host, (word,)) for host in all_of_them):
            known = sorted({name for host in all_of_them for name in host.settings.services})
            raise UsageError(f"no selected host has a service {word!r}", hint=f"services: {', '.join(known) or 'none'}")
    return tuple(host for host in all_of_them if _names(host, words))


def _names(host: Host, words: Sequence[str]) -> tuple[str, ...]:
    """The containers that are meant, in the order of the words, each once."""
    containers = {
        f"{service.name}-{number}": service.name
        for service in host.settings.services.values()
        for number in range(service.replicas)
    }
    return tuple(dict.fromkeys(name for word in words for name, of in containers.items() if word in (name, of)))


def _check_number(hosts: Sequence[Host], words: Sequence[str]) -> None:
    """Each followed container takes a channel, and a connection carries few."""
    for host in hosts:
        names = _names(host, words)
        if len(names) > MOST:
            raise UsageError(
                f"{host.name} has {len(names)} such containers, and {MOST} can be followed at once",
                hint=f"name some: invoke logs {names[0]},{names[1]} --follow",
            )


def _state(session: Session, client: docker.DockerClient, name: str) -> str:
    """running, exited, …; empty when there is no such container."""
    with engine_errors(session, f"looking at {name}"):
        try:
            return str(client.api.inspect_container(name)["State"]["Status"])
        except docker.errors.NotFound:
            return ""


def _absent(host: Host, name: str) -> HostError:
    return HostError(host.name, f"there is no container {name}", hint="invoke status shows what runs")


def _shower(
    session: Session, client: docker.DockerClient, name: str, several: bool, follow: bool, tail: int
) -> Callable[[], None]:
    prefix = f"{session.host.name} {name}" if several else session.host.name

    def tell(line: str) -> None:
        try:
            terminal.host_line(prefix, line)
        except BrokenPipeError as error:
            raise _ReaderLeft from error

    def show() -> None:
        lines = Lines(tell, threading.Lock())
        for piece in _pieces(session, client, name, follow, tail):
            lines(piece)
        lines.end()

    return show


def _pieces(session: Session, client: docker.DockerClient, name: str, follow: bool, tail: int) -> Iterator[bytes]:
    """Standard output and error of the container, entry by entry."""
    with engine_errors(session, f"reading the log of {name}"):
        yield from client.api.logs(name, stream=True, follow=follow, tail=tail if tail >= 0 else "all")


def _side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """All of them at once, to their ends; raises the first failure. Daemons: Ctrl-C waits for none of them."""
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  said by the caller's thread
            done.put(error)
        else:
            done.put(None)

    for work in works:
        threading.Thread(target=attempt, args=(work,), daemon=True).start()
    failures = []
    for _ in works:
        error = done.get()
        if isinstance(error, _ReaderLeft):
            raise error
        failures += [error] if error else []
    for error in failures:
        raise error


def _leave_with_reader(_host: Host, result: object) -> None:
    """Nobody reads any more (`| head`): end as every other command does then."""
    if isinstance(result, HostError) and isinstance(result.__cause__, _ReaderLeft):
        raise BrokenPipeError
