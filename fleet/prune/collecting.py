"""Looking at a registry on its host, and having it collect its garbage there."""

from importlib.resources import files

from fleet.errors import HostError
from fleet.prune.collect import Collect, Garbage, RegistryHost, Way, parse, parse_garbage, read_only, room_in
from fleet.prune.facts import Room
from fleet.shell import Answer, Scripted

PROGRAM = files("fleet.prune").joinpath("collect.sh").read_text("utf-8")
_END = "END-OF-CONFIGURATION"


def look(session: Scripted) -> RegistryHost:
    """Which registries run on the host. Changes nothing."""
    return parse(_run(session, PROGRAM, "look").stdout)


def measure(session: Scripted, way: Way) -> Garbage:
    """What a collection would free, by the registry's own dry run: it reads every manifest. Changes nothing."""
    return parse_garbage(_run(session, PROGRAM, "dry", *way.arguments).stdout)


def collect(step: Collect, session: Scripted) -> tuple[Room, Room]:
    """The storage before and after. Raises HostError, with the registry as it was before.

    The host finishes it alone when the connection ends. The configuration comes by standard input: it may hold secrets.
    """
    wanted = read_only(step.way.running.document)
    text = f"wanted() {{ cat <<'{_END}'\n{wanted}{_END}\n}}\n{PROGRAM}"
    said = _run(session, text, "collect", *step.way.arguments).stdout
    return room_in(said, "before"), room_in(said, "after")


def _run(session: Scripted, text: str, *args: str) -> Answer:
    done = session.script(text, args=args, sudo=True, check=False)
    if done.exit_code:
        said = done.stderr.strip().splitlines() or ["what was doing it was ended there; the next prune puts it right"]
        raise HostError(session.host.name, f"the registry's garbage: {said[0]}", tail=tuple(said[1:]))
    return done
