"""Which models a run brings to which hosts, and from where: what lies here is read and hashed before any host is asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.bundle.check import Bundle
from fleet.delivery.progress import Moving
from fleet.errors import UsageError
from fleet.image import lock as locks
from fleet.image.lock import Lock
from fleet.inventory.model import Host
from fleet.models.content import Content, File
from fleet.models.disk import PREFIX, OnHost
from fleet.models.hashes import Hashes
from fleet.models.hub import Hub, repository
from fleet.models.names import checked, of_service, path_problem
from fleet.models.resolve import Origin
from fleet.models.source import Here, find, measure, read, size
from fleet.playbook import Models
from fleet.rollout.assign import Programme
from fleet.rollout.modelplan import differing
from fleet.rollout.publish import CONTROLLER
from fleet.rollout.site import Site
from fleet.verbs.common import ROOT

HASHES = ROOT / "models.json"
HUB = ROOT / "hub"


@dataclass
class Weights:
    """By host and name, what is brought; `notes` say what is not. `hubs` are the repositories of Hugging Face in it."""

    of_host: dict[str, dict[str, Origin]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hubs: list[Hub] = field(default_factory=list)

    def pinned(self, lock: Lock) -> Lock:
        """The lock with the commits that the hosts found."""
        for hub in self.hubs:
            if hub.commit and not hub.fixed:
                lock = lock.with_model(hub.repository.key, hub.commit)
        return lock


def gather(programme: Programme, bundle: Bundle | None, moving: Moving, lock: Lock) -> Weights:
    """Raises UsageError for a source that is not there or not to be understood, a model that was asked for by name and is
    not in it, and for a stage without a source in a run without a bundle.
    """
    weights = Weights()
    hosts = {host.name: host for host in programme.hosts}
    for one in programme.assignments:
        for stage in (stage for stage in one.play.stages if isinstance(stage, Models)):
            if problem := _problem(stage, bundle):
                raise UsageError(f"play {one.play.name}: {problem[0]}", hint=problem[1])
            known: dict[str, Origin | None] = {}
            for name in one.hosts:
                for model in _wanted(stage, hosts[name]):
                    if model not in known:
                        known[model] = _origin(stage, model, bundle, moving, lock, weights)
                        weights.notes += _missing(stage, model) if known[model] is None else []
                    found = known[model]
                    if found is not None:
                        weights.of_host.setdefault(name, {}).setdefault(model, found)
    return weights


def settle(weights: Weights, lock_path: Path, sites: Iterable[Site], *, dry: bool) -> tuple[str, ...]:
    """What only the hosts could tell: commits go into the lock, and disks that differ are named."""
    before = locks.read(lock_path)
    lock = weights.pinned(before)
    if lock != before and not dry:
        locks.write(lock_path, lock)
    return differing({site.host.name: site.weighed.sources for site in sites})


def models_of(host: Host) -> tuple[str, ...]:
    """The names below models_dir of what the host's services serve; other paths are nobody's to bring."""
    found = (of_service(service.model) for service in host.settings.services.values())
    return tuple(dict.fromkeys(name for name in found if name))


def _problem(stage: Models, bundle: Bundle | None) -> tuple[str, str] | None:
    """What the arguments of a stage do not say well together, with a hint."""
    if stage.hf and stage.source:
        return "models come from source or from hf, not from both", "make two plays of it"
    if stage.hf and len(stage.names) > 1:
        return "hf is one model", "names: [NAME], as it is to be called below models_dir"
    if not stage.hf and (stage.token_file or stage.endpoint or stage.update):
        return "token_file, endpoint and update are of hf", "hf: ORG/NAME"
    if not stage.hf and not stage.source and (bundle is None or stage.revision):
        return (
            "the stage models has no source",
            "say models: {source: DIR}, or take a bundle that carries them: --bundle DIR",
        )
    if stage.source.startswith(PREFIX) and not stage.source.removeprefix(PREFIX).startswith("/"):
        return f"{stage.source} is no directory of a host", f"{PREFIX}/DIR"
    return None


def _wanted(stage: Models, host: Host) -> tuple[str, ...]:
    """The models of a stage for one host. One of Hugging Face has the name by which the host's services call it."""
    if stage.names or not stage.hf:
        return stage.names or models_of(host)
    called = (stage.hf, stage.hf.rpartition("/")[2])
    return tuple(name for name in models_of(host) if name in called)


def _origin(
    stage: Models, model: str, bundle: Bundle | None, moving: Moving, lock: Lock, weights: Weights
) -> Origin | None:
    if stage.hf:
        asked = repository(stage.hf, stage.revision, stage.endpoint, stage.token_file)
        hub = next((one for one in weights.hubs if one.repository == asked), None)
        if hub is None:
            hub = Hub(asked, "" if stage.update else lock.model(asked.key), HUB)
            weights.hubs.append(hub)
        return hub
    if stage.source.startswith(PREFIX):
        return OnHost(stage.source.removeprefix(PREFIX), stage.revision, asked=bool(stage.names))
    if stage.source:
        return read_here(Path(stage.source).expanduser(), model, moving, stage.revision)
    return _carried(bundle, model)


def read_here(folder: Path, model: str, moving: Moving, revision: str = "") -> Here | None:
    """A model of a directory here; None where it is not there. Raises UsageError, FleetError."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no directory",
            hint=f"the source of models is one on this controller, or {PREFIX}/DIR on the hosts",
        )
    root = find(folder, checked(model), revision)
    if root is None:
        return None
    paths = measure(root)
    hashes = Hashes(HASHES)
    try:
        with moving(CONTROLLER, f"read model {model}", size(paths)) as at:
            done = 0

            def told(count: int) -> None:
                nonlocal done
                done += count
                at(done)

            return read(model, root, paths, hashes, told)
    finally:
        hashes.save()


def _carried(bundle: Bundle | None, model: str) -> Here | None:
    """A model of a bundle, whose files were checked when it was opened."""
    named = {of_service(one): one for one in bundle.manifest.models} if bundle else {}
    if bundle is None or model not in named:
        return None
    inside = f"models/{named[model].lstrip('/')}/"
    entries = [one for one in bundle.manifest.files if one.path.startswith(inside)]
    out = [one for one in bundle.manifest.base.files if one.path.startswith(inside)] if bundle.manifest.base else []
    files = [File(one.path.removeprefix(inside), one.size, one.sha256) for one in entries]
    files += [File(one.path.removeprefix(inside), one.size, one.sha256) for one in out]
    odd = [problem for one in files if (problem := path_problem(one.path))]
    if odd:
        raise UsageError(f"model {model} of {bundle.path} cannot be brought to hosts: {'; '.join(odd)}")
    paths = {one.path.removeprefix(inside): bundle.file(one) for one in entries}
    return Here(Content.of(model, files), paths, str(bundle.path))


def _missing(stage: Models, model: str) -> Sequence[str]:
    if stage.names:
        hint = "it is looked for as NAME/, and as models--ORG--NAME of Hugging Face's cache"
        raise UsageError(f"{stage.source or 'the bundle'} has no model {model}", hint=hint)
    return [f"model {model} is not in {stage.source}: it has to be on the hosts"] if stage.source else []
