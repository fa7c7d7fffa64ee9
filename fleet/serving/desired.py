"""Services and facts of one host -> the containers that should be there. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.errors import FleetError
from fleet.facts import Facts
from fleet.inventory.settings import Service, Settings
from fleet.serving import secrets
from fleet.serving.inspection import Inspection
from fleet.serving.placement import Gpu, Replica, place
from fleet.serving.spec import ContainerSpec, Ground, ImageIdentity, build


@dataclass(frozen=True)
class Desired:
    """`written` are the secrets files on the host that already hold the wanted values."""

    specs: tuple[ContainerSpec, ...]
    written: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecretFiles:
    """`wanted`: service -> sha256 of the file it should have; None where nobody may or need reveal secrets, then what
    is on the host is taken to be right. `on_host`: path -> sha256 of the files that exist.
    """

    wanted: Mapping[str, str] | None
    on_host: Mapping[str, str]

    def good(self, service: str, path: str) -> bool:
        return path in self.on_host and (self.wanted is None or self.on_host[path] == self.wanted.get(service))


def desired(
    settings: Settings,
    facts: Facts,
    state_dir: str,
    images: Mapping[str, ImageIdentity],
    files: SecretFiles,
    found: Iterable[Inspection] = (),
) -> Desired:
    """`images` maps a service to the release it is to run (none: not made here); `found` tells which secrets file is in use."""
    gpus, problems = usable_gpus(facts)
    heads = {model.name: model.attention_heads for model in facts.models or () if model.attention_heads}
    placement = place(settings.services.values(), gpus, heads)
    problems += placement.problems
    notes = [*placement.notes]
    ground = Ground(settings.models_dir, state_dir, facts.gids)
    current = {one.name: one.secrets_file for one in found if one.owned}
    specs = []
    for replica in (one for one in placement.replicas if one.service in images):
        service = settings.services[replica.service]
        path = _secrets_path(service, replica, state_dir, current.get(replica.name, ""), files)
        try:
            built = build(service, replica, ground, images[service.name], secrets_file=path)
        except FleetError as error:
            problems += (f"{replica.name}: {error}",)
            continue
        specs.append(built.spec)
        notes += built.notes
        problems += built.problems
        if service.host == "0.0.0.0" and "VLLM_API_KEY" not in service.secrets:  # noqa: S104  it is what we warn of
            notes.append(f"{replica.name}: listens on every interface of the host and no VLLM_API_KEY guards it")
    written = frozenset(
        spec.secrets_file for spec in specs if spec.secrets_file and files.good(spec.service, spec.secrets_file)
    )
    return Desired(tuple(specs), written, tuple(dict.fromkeys(notes)), tuple(problems))


def usable_gpus(facts: Facts) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The host's GPUs as placement wants them. One without a render node cannot be handed to a container."""
    usable = tuple(
        Gpu(
            gpu.index,
            gpu.gfx or "",
            gpu.render_minor,
            gpu.hive or "",
            -1 if gpu.numa_node is None else gpu.numa_node,
            gpu.vram_bytes or 0,
        )
        for gpu in facts.gpus
        if gpu.render_minor is not None
    )
    lost = [str(gpu.index) for gpu in facts.gpus if gpu.render_minor is None]
    return usable, (f"no render node is known of GPU {', '.join(lost)}",) if lost else ()


def _secrets_path(service: Service, replica: Replica, state_dir: str, in_use: str, files: SecretFiles) -> str:
    if not service.secrets:
        return ""
    base = f"{state_dir}/secrets/{replica.name}"
    if files.wanted is None:
        return in_use or secrets.slots(base)[0]
    return secrets.choose_slot(base, in_use, files.on_host, files.wanted.get(service.name, ""))
