"""A spec against a real container: same, to be updated in place, or to be made anew, every difference by name. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.serving.command_diff import DELICATE, differing
from fleet.serving.inspection import Inspection
from fleet.serving.spec import LABEL, ContainerSpec, ImageIdentity, Volume

DEFAULT_SHM = 64 * 1024 * 1024


@dataclass(frozen=True)
class Difference:
    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what}: {self.old or 'nothing'} -> {self.new or 'nothing'}"


@dataclass(frozen=True)
class Same:
    """Label and real inspection agree."""

    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Update:
    """The engine can change this on the living container."""

    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Recreate:
    differences: tuple[Difference, ...]


Verdict = Same | Update | Recreate


def compare(spec: ContainerSpec, real: Inspection, *, restart: bool = True) -> Verdict:
    """`restart=False` looks away from the restart policy: a candidate's and a held container's is "no" on purpose.

    Fields of the engine's own making (hostname, MAC, masked paths, SELinux labels, image variables) count for nothing.
    """
    deep = tuple(_deep(spec, real))
    if not deep and real.labels.get(f"{LABEL}spec") != spec.hash:
        old = real.labels.get(f"{LABEL}spec", "")
        deep = (Difference("spec label", old[:12], spec.hash[:12]),)
    light = tuple(_field("restart", real.restart, spec.restart)) if restart else ()
    if deep:
        return Recreate(deep + light)
    return Update(light) if light else Same()


def runs(image: ImageIdentity, real: Inspection) -> bool:
    """Does the container run this release, whatever its store calls it?

    The classic store's image ID is the config digest, the containerd store's the manifest's (or an index's) digest.
    Where neither is known, the layers' diffIDs and the parts of the config that count decide.
    """
    if real.image_id in {image.config_digest, image.manifest_digest} - {""}:
        return True
    if not image.diff_ids or real.diff_ids != image.diff_ids:
        return False
    env_agrees = image.env is None or dict(real.image_env or {}) == dict(image.env)
    return env_agrees and real.image_entrypoint == image.entrypoint


def _deep(spec: ContainerSpec, real: Inspection) -> list[Difference]:
    found: list[Difference] = []
    if not runs(spec.image, real):
        release = real.labels.get(f"{LABEL}release", "")
        old = f"{release} {real.image_id[:19]}".strip()
        found.append(Difference("image", old, f"{spec.image.release} {spec.image.config_digest[:19]}"))
    image_env = real.image_env if real.image_env is not None else dict(spec.image.env or {})
    found += _mapping("env", real.env, {**image_env, **dict(spec.env)})
    entrypoint = spec.entrypoint if spec.entrypoint is not None else spec.image.entrypoint
    found += _field("entrypoint", real.entrypoint, entrypoint)
    found += [Difference("command", *sides) for sides in differing(real.arguments, spec.arguments)]
    found += _field("devices", real.devices, tuple(sorted(spec.devices)))
    found += _field("groups", real.gids, tuple(sorted(str(gid) for gid in spec.gids)))
    found += _volumes(spec, real)
    found += _mapping("tmpfs", real.tmpfs, dict(spec.tmpfs))
    named = {name: value for name, value in real.ulimits.items() if name in dict(spec.ulimits)}
    found += _mapping("ulimit", _text(named), _text(dict(spec.ulimits)))  # daemon.json may add limits of its own
    found += _field("network", _network(real.network), _network(spec.network))
    found += _field("ipc", real.ipc, spec.ipc or real.ipc)
    if spec.shm_bytes or (real.shm_bytes not in (0, DEFAULT_SHM) and spec.ipc != "host"):
        found += _field("shm size", str(real.shm_bytes), str(spec.shm_bytes or DEFAULT_SHM))
    found += _field("ports", tuple(map(str, sorted(real.ports))), (str(spec.port),) if spec.published else ())
    security = {option for option in real.security if not option.startswith("label=") or option in spec.security}
    found += _field("security options", tuple(sorted(security)), tuple(sorted(spec.security)))
    found += _field("added capabilities", tuple(sorted(real.cap_add)), tuple(sorted(spec.cap_add)))
    found += _field("dropped capabilities", tuple(sorted(real.cap_drop)), tuple(sorted(spec.cap_drop)))
    found += _field("read-only root", str(real.read_only), str(spec.read_only))
    found += _field("privileged", str(real.privileged), "False")
    found += _field("pids limit", str(real.pids_limit), str(spec.pids_limit))
    found += _field("init", str(real.init), "True")
    found += _field("stop timeout", str(real.stop_timeout), str(spec.stop_timeout))
    found += _field("log driver", real.log[0], "json-file")
    found += _mapping("log option", real.log[1], dict(spec.log))
    return found


def _field(what: str, old: Any, new: Any) -> list[Difference]:
    return [] if old == new else [Difference(what, _say(old), _say(new))]


def _mapping(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(f"{what} {name}", *(_shown(name, side.get(name)) for side in (old, new)))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _volumes(spec: ContainerSpec, real: Inspection) -> list[Difference]:
    old = {volume.target: volume for volume in real.volumes}
    new = {volume.target: volume for volume in spec.volumes}
    return [
        Difference(f"mount {target}", _said(old.get(target)), _said(new.get(target)))
        for target in sorted({*old, *new})
        if old.get(target) != new.get(target)
        and not (target not in new and target in real.image_volumes)  # the image's own VOLUME
    ]


def _said(volume: Volume | None) -> str:
    return "" if volume is None else f"{volume.source} ({'ro' if volume.read_only else 'rw'})"


def _shown(name: str, value: str | None) -> str:
    """A stranger's variable may hold a token, so values of delicate names stay hidden."""
    return "" if value is None else "***" if DELICATE.search(name) else value or '""'


def _say(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _text(limits: Mapping[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in limits.items()}


def _network(mode: str) -> str:
    return "bridge" if mode == "default" else mode  # the engine's two names for one thing
