"""Carrying a delivery out on one host: every effect goes through `apply`, and nothing is believed until it is read again."""

import io
from collections.abc import Sequence
from pathlib import Path

import requests
import urllib3
from docker.errors import DockerException

from fleet.delivery import scripts
from fleet.delivery.plan import Keep, Load, PlaceCa, Pull, Step, Sweep, Tag, ca_path
from fleet.delivery.pull import pull
from fleet.delivery.relay import Distrust, Fill, FillModel, StartRelay, StopRelay
from fleet.delivery.relay_effects import distrust, fill, fill_model, start, stop
from fleet.delivery.sideload import clear, sideload
from fleet.delivery.way import Way
from fleet.errors import HostError


def carry_out(steps: Sequence[Step], way: Way) -> int:
    """All steps in order; returns how many changed something. Raises HostError."""
    loads = sum(isinstance(step, Load) for step in steps)
    for step in steps:
        loads -= isinstance(step, Load)
        way = apply(step, way, more=bool(loads))
    return sum(step.changes for step in steps)


def apply(step: Step, way: Way, *, more: bool = False) -> Way:
    """One step; `more` sideloads follow it. Returns the way that is open then: a broken connection may have been renewed."""
    if isinstance(step, Keep):
        return way
    last = [way]

    def do() -> None:
        last[0] = _do(step, way, more=more)

    try:
        way.seam.perform(way.host, step, do)
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise HostError(way.host, f"could not {step.what}: {error}") from error
    return last[0]


def _do(
    step: PlaceCa | Pull | Load | Tag | Sweep | Fill | FillModel | StartRelay | StopRelay | Distrust,
    way: Way,
    *,
    more: bool,
) -> Way:
    match step:
        case PlaceCa():
            _place_ca(step, way)
        case Pull():
            _pull(step, way)
        case Load():
            return sideload(step, way, more=more)
        case Tag():
            repository, _, tag = step.name.rpartition(":")
            way.client.api.tag(step.image, repository, tag, force=True)
        case Sweep():
            clear(step, way)
        case Fill():
            return fill(step, way)
        case FillModel():
            return fill_model(step, way)
        case StartRelay():
            start(step, way)
        case StopRelay():
            stop(step, way)
        case Distrust():
            distrust(step, way)
    return way


def _place_ca(step: PlaceCa, way: Way) -> None:
    path = ca_path(step.registry)
    source = next((one.ca_file for one in way.registries.values() if one.host == step.registry and one.ca_file), "")
    if not source:
        raise HostError(way.host, f"could not {step.what}: no ca_file is set", hint="fleet.registry.ca_file")
    content = Path(source).expanduser().read_bytes()
    way.sender.command(scripts.PLACE, path, str(len(content)), stdin=io.BytesIO(content))


def _pull(step: Pull, way: Way) -> None:
    registry = way.registries.get(step.repository)
    auth = None
    if registry is not None and registry.username is not None and registry.password is not None:
        auth = {"username": registry.username.reveal(), "password": registry.password.reveal()}
    with way.slot(step.registry), way.moving(way.host, f"pull {step.repository}", step.size) as at:
        pull(way.client, way.host, step, auth, at=at, stall=way.stall, tries=way.tries)
