"""Which models a run brings to which hosts, and from where: read and hashed here before any host is asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.bundle.check import Bundle
from fleet.delivery.progress import Moving
from fleet.errors import UsageError
from fleet.inventory.model import Host
from fleet.models.content import Content, File, Source
from fleet.models.hashes import Hashes
from fleet.models.names import checked, of_service, path_problem
from fleet.models.source import Here, find, measure, read, size
from fleet.playbook import Models
from fleet.rollout.assign import Programme
from fleet.rollout.releases import CONTROLLER
from fleet.verbs.common import ROOT

HASHES = ROOT / "models.json"


@dataclass
class Weights:
    """By host and name, what is brought; `notes` say what is not."""

    of_host: dict[str, dict[str, Source]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(programme: Programme, bundle: Bundle | None, moving: Moving) -> Weights:
    """Raises UsageError for a source that is not there, a model that was asked for by name and is not in it, and for a
    stage without a source in a run without a bundle.
    """
    weights = Weights()
    hosts = {host.name: host for host in programme.hosts}
    known: dict[tuple[str, str], Source | None] = {}
    for one in programme.assignments:
        for stage in (stage for stage in one.play.stages if isinstance(stage, Models)):
            if not stage.source and bundle is None:
                hint = "say models: {source: DIR}, or take a bundle that carries them: --bundle DIR"
                raise UsageError(f"play {one.play.name}: the stage models has no source", hint=hint)
            for name in one.hosts:
                for model in stage.names or models_of(hosts[name]):
                    key = (stage.source, model)
                    if key not in known:
                        known[key] = _source(stage.source, model, bundle, moving)
                        weights.notes += _missing(stage, model) if known[key] is None else []
                    found = known[key]
                    if found is not None:
                        weights.of_host.setdefault(name, {}).setdefault(model, found)
    return weights


def models_of(host: Host) -> tuple[str, ...]:
    """The names below models_dir of what the host's services serve; other paths are nobody's to bring."""
    found = (of_service(service.model) for service in host.settings.services.values())
    return tuple(dict.fromkeys(name for name in found if name))


def _source(folder: str, model: str, bundle: Bundle | None, moving: Moving) -> Source | None:
    if folder:
        return read_here(Path(folder).expanduser(), model, moving)
    return _carried(bundle, model) if bundle is not None else None


def read_here(folder: Path, model: str, moving: Moving) -> Here | None:
    """A model of a directory here; None where it is not there. Raises UsageError, FleetError."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no directory", hint="the source of models is one on this controller")
    root = find(folder, checked(model))
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
    paths = {one.path.removeprefix(inside): bundle.file(one) for one in entries}
    odd = [problem for path in paths if (problem := path_problem(path))]
    if odd:
        raise UsageError(f"model {model} of {bundle.path} cannot be brought to hosts: {'; '.join(odd)}")
    files = [File(one.path.removeprefix(inside), one.size, one.sha256) for one in entries]
    return Here(Content.of(model, files), paths, str(bundle.path))


def _missing(stage: Models, model: str) -> Sequence[str]:
    if stage.names:
        hint = "it is looked for as NAME/, and as models--ORG--NAME of Hugging Face's cache"
        raise UsageError(f"{stage.source or 'the bundle'} has no model {model}", hint=hint)
    return [f"model {model} is not in {stage.source}: it has to be on the hosts"] if stage.source else []


def document(of_host: Mapping[str, Mapping[str, Source]]) -> dict[str, object]:
    """`{name: {files, bytes, digest}}` of all that is brought."""
    contents: Iterable[Content] = (one.content for sources in of_host.values() for one in sources.values())
    return {one.name: {"files": len(one.files), "bytes": one.size, "digest": one.digest} for one in contents}
