"""What a host is asked to be: derived from its settings, the image and the controller's clock. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.inventory.model import Host
from fleet.inventory.settings import EMPTY, Gpus, Registry, Service, Settings

API_KEY = "VLLM_API_KEY"
MEMORY_SHARE = 0.9  # vLLM's own default of gpu-memory-utilization
# Arguments that let the weights take another size in memory than on disk. Source: vLLM's engine arguments.
RESIZING = {"quantization", "q", "cpu-offload-gb", "load-format", "dtype", "hf-overrides"}


@dataclass(frozen=True)
class Targets:
    """What one image was built for; empty where it does not tell. `services` are those that run it."""

    gfx: tuple[str, ...] = ()
    rocm: str = ""
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFacts:
    """What is known of the images that will run. 0 means unknown.

    `size_bytes` is what the engine lacks (compressed), `unpacked_bytes` what the layers take on disk, `staged_bytes` how
    much of the former an earlier transfer left on the host. Give sizes of 0 for a host that already has the image: then
    no room is asked for.
    """

    targets: tuple[Targets, ...] = ()
    size_bytes: int = 0
    unpacked_bytes: int = 0
    staged_bytes: int = 0


@dataclass(frozen=True)
class ServiceNeeds:
    """What one service asks of the host. `gpus` is per replica, 0 = its even share."""

    name: str
    model: str
    ports: tuple[int, ...]
    gpus: int = 0
    host: str = "127.0.0.1"
    guarded: bool = False  # an API key is set
    aiter: bool = False  # VLLM_ROCM_USE_AITER is switched on
    host_network: bool = True
    host_ipc: bool = True
    memlock: int = -1
    nofile: int = 65536
    memory_share: float = 0.9  # gpu-memory-utilization
    tensor_parallel: int = 0  # 0 = auto
    pipeline_parallel: int = 1
    data_parallel: int = 1
    resized: bool = False  # the weights take another size in memory than on disk

    @property
    def replicas(self) -> int:
        return len(self.ports)


@dataclass(frozen=True)
class Needs:
    """Everything that the checks compare facts with. `image` is None when nobody knows the image yet."""

    host: str = ""
    gpus: Gpus = field(default_factory=Gpus)
    image: ImageFacts | None = None
    models_dir: str = "/srv/models"
    staging_dir: str = "/var/tmp/fleet"  # noqa: S108  the setting's own default
    delivery: str = "registry"
    services: tuple[ServiceNeeds, ...] = ()
    serves: bool = True  # GPUs or services are declared
    builds: bool = False  # it is the inventory's builder
    take_over: tuple[str, ...] = ()  # names of foreign containers that may be replaced
    accept: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    registries: tuple[str, ...] = ()  # pulled from, with a CA of their own
    insecure: tuple[str, ...] = ()  # pulled from, by plain HTTP
    epoch: float | None = None  # the controller's clock, seconds
    coming: frozenset[str] = frozenset()  # models that this run brings, by their names below models_dir


def needs_of(
    host: Host,
    image: ImageFacts | None,
    now: float,
    *,
    take_over: tuple[str, ...] = (),
    coming: frozenset[str] = frozenset(),
) -> Needs:
    """The needs of one host. Where `image` is None, what the inventory itself says of its images still counts."""
    settings = host.settings
    pulled = _registries(settings)
    if image is None and (told := _told(settings)):
        image = ImageFacts(told)
    return Needs(
        host=host.name,
        gpus=settings.gpus,
        image=image,
        models_dir=settings.models_dir,
        staging_dir=settings.staging_dir,
        delivery=settings.delivery,
        services=tuple(_service(service) for service in settings.services.values()),
        serves=bool(settings.services or settings.gpus.model or settings.gpus.count),
        builds=settings.builder == host.name,
        take_over=take_over,
        accept=settings.accept,
        registries=tuple(one.host for one in pulled if one.ca_file),
        insecure=tuple(one.host for one in pulled if one.insecure),
        epoch=now,
        coming=coming,
    )


def _told(settings: Settings) -> tuple[Targets, ...]:
    """What the inventory says by hand of the images of the host's services, or of its image where it has none."""
    found: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}
    images = {name: service.image or settings.image for name, service in settings.services.items()}
    for name, image in (images or {"": settings.image}).items():
        gfx = image.gfx or (image.source.gfx if image.source else ()) if image else ()
        if image and (gfx or image.rocm):
            found[gfx, image.rocm] = (*found.get((gfx, image.rocm), ()), *([name] if name else []))
    return tuple(Targets(*said, services) for said, services in found.items())


def _registries(settings: Settings) -> tuple[Registry, ...]:
    """Those that the host pulls from itself, each once."""
    if settings.delivery != "registry":
        return ()
    asked = [service.registry or settings.registry for service in settings.services.values()]
    return tuple({one.host: one for one in asked if one is not None}.values())


def _service(service: Service) -> ServiceNeeds:
    args = {key.replace("_", "-"): value for key, value in service.args.items()}
    return ServiceNeeds(
        name=service.name,
        model=service.model,
        ports=tuple(range(service.port, service.port + max(service.replicas, 1))),
        gpus=service.gpus,
        host=str(args.get("host", service.host)),
        guarded=API_KEY in service.secrets or API_KEY in service.env or "api-key" in args,
        aiter=str(service.env.get("VLLM_ROCM_USE_AITER", "0")).lower() in ("1", "true"),
        host_network=service.network == "host",
        host_ipc=service.ipc == "host",
        memlock=service.ulimits.get("memlock", 0),
        nofile=service.ulimits.get("nofile", 0),
        memory_share=_number(args.get("gpu-memory-utilization"), MEMORY_SHARE),
        tensor_parallel=int(_number(args.get("tensor-parallel-size", service.tensor_parallel_size), 0)),
        pipeline_parallel=int(_number(args.get("pipeline-parallel-size"), 1)),
        data_parallel=int(_number(args.get("data-parallel-size"), 1)),
        resized=bool(RESIZING & args.keys()),
    )


def _number(value: object, otherwise: float) -> float:
    """A positive number, also where it was written as a text; `auto` and nonsense (vLLM's to refuse) are `otherwise`."""
    try:
        number = float(value) if isinstance(value, int | float | str) else otherwise
    except ValueError:
        return otherwise
    return number if 0 < number < 1 << 32 else otherwise
