"""Sources of models as they were asked for, and what they are on one host."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.delivery.download import HINT_CURL, NO_CURL
from fleet.delivery.send import LinkError, Sender
from fleet.errors import HostError
from fleet.models.content import Source
from fleet.models.disk import OnHost, read
from fleet.models.held import Ground
from fleet.models.hub import Hub, Remote
from fleet.models.local import Local
from fleet.models.plan import Bring, Plan
from fleet.models.source import Here

Origin = Here | OnHost | Hub


@dataclass
class Resolved:
    """By name, what is brought; `notes` say what is not, `problems` keep the host from being touched."""

    sources: dict[str, Source] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def resolve(
    sender: Sender, models_dir: str, wanted: Mapping[str, Origin], *, everything: bool = False, relayed: bool = False
) -> Resolved:
    """Look on the host where that is needed. Changes nothing. Raises LinkError.

    Of a `relayed` host this controller asks Hugging Face where the host has no way to it.
    """
    found = Resolved()
    for name, origin in wanted.items():
        try:
            source = _source(sender, models_dir, name, origin, everything=everything, relayed=relayed)
        except LinkError:
            raise
        except HostError as error:
            hint = f" ({error.hint})" if error.hint else ""
            found.problems.append(f"model {name}: {error.message}{hint}")
            continue
        if source is not None:
            found.sources[name] = source
        elif isinstance(origin, OnHost):
            words = f"model {name} is not in {origin.directory} on the host"
            (found.problems if origin.asked else found.notes).append(
                words if origin.asked else f"{words}: it has to be there already"
            )
    return found


def lacking(plan: Plan, sources: Mapping[str, Source], ground: Ground) -> tuple[str, ...]:
    """What keeps a host from getting by itself what it is to get by itself. Pure."""
    own = [step for step in plan.steps if isinstance(step, Bring) and isinstance(sources[step.name], Remote)]
    return (f"model {own[0].name}: {NO_CURL} ({HINT_CURL})",) if own and not ground.curl else ()


def left_out(plan: Plan, sources: Mapping[str, Source], ground: Ground) -> tuple[str, ...]:
    """What a host lacks that a bundle does not carry, because it counted on the host for it. Pure."""
    found = []
    for step in (one for one in plan.steps if isinstance(one, Bring)):
        source = sources[step.name]
        absent = [one.path for one in step.files if isinstance(source, Here) and one.path not in source.paths]
        if absent and not all(ground.blobs.get(one.sha256) == one.size for one in step.files if one.path in absent):
            found.append(
                f"model {step.name}: the bundle leaves out {', '.join(absent)}, which this host held when the base of the "
                "bundle was written and holds no longer; bring a full bundle, or one --since a fresh bundle.have"
            )
    return tuple(found)


def _source(
    sender: Sender, models_dir: str, name: str, origin: Origin, *, everything: bool, relayed: bool
) -> Source | None:
    match origin:
        case Here():
            return origin
        case OnHost():
            return read(sender, models_dir, name, origin, everything=everything)
        case Hub():
            return origin.read(sender, name, Local() if relayed else None)
