"""What `fleet:` says, as frozen values. Every field here has its twin in schema.yaml; a test compares them.

Values are already merged along the groups and valid. `None` and empty mean "not set".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fleet.secret import Secret

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Gpus:
    """What the inventory promises. `count` is what HIP sees in the declared partition (8×MI300X CPX = 64)."""

    model: str = ""  # MI300X, MI250, …
    count: int = 0
    compute_partition: str = ""  # SPX, DPX, QPX, CPX, TPX; empty = not promised
    memory_partition: str = ""  # NPS1, NPS4, …


@dataclass(frozen=True)
class OwnBase:
    """The base image, built first from the same work tree and handed to the image's build as BASE_IMAGE."""

    build: str = "docker/Dockerfile.rocm_base"
    target: str = ""
    args: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Source:
    """Build from a git repository. `repository` is a URL or a local path."""

    ref: str
    repository: str = "https://github.com/vllm-project/vllm.git"
    dockerfile: str = "docker/Dockerfile.rocm"
    target: str = ""
    base_image: str = ""
    base: OwnBase | None = None  # excludes base_image, but for a strategy
    args: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    patches: tuple[str, ...] = ()
    gfx: tuple[str, ...] = ()  # empty = the GPUs that the whole inventory declares
    proxy: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # http_proxy, https_proxy, no_proxy
    ca_file: str = ""
    git_username: Secret | None = None
    git_password: Secret | None = None
    stall: float = 3600.0  # seconds without a line, after which a build is ended


@dataclass(frozen=True)
class Image:
    """What to run. Exactly one of source, prebuilt (a tag or digest reference) and archive (a tarball) is set.

    With a `strategy` (prebuilt, source, own_base, auto) source and prebuilt may both be; what is taken then, says
    fleet.image.strategy. `require_source`: only what was built from source may run.

    `gfx` and `rocm` are said by hand only for images that do not tell themselves.
    """

    name: str
    source: Source | None = None
    prebuilt: str = ""
    archive: str = ""
    gfx: tuple[str, ...] = ()
    rocm: str = ""
    strategy: str = ""
    require_source: bool = False


@dataclass(frozen=True)
class Collecting:
    """How a registry on a host of the inventory collects its garbage, as far as its process does not tell by itself."""

    config: str = ""
    restart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    host: str  # registry.corp:5000, without a scheme
    ca_file: str = ""
    username: Secret | None = None
    password: Secret | None = None
    insecure: bool = False  # plain HTTP
    parallel_pulls: int = 4
    collect: Collecting = Collecting()


@dataclass(frozen=True)
class Expect:
    """What an answer must be: exactly one of these is set. Texts in `begins` are alternatives at the answer's begin."""

    begins: tuple[str, ...] = ()
    contains: str = ""
    regex: str = ""


@dataclass(frozen=True)
class Known:
    """A prompt whose answer is known. `max_tokens` 0 is that of `Verify`; `case`: upper and lower case matter."""

    prompt: str
    expect: Expect
    max_tokens: int = 0
    case: bool = False


@dataclass(frozen=True)
class Verify:
    """How an answer is asked for, and what it must be like. `task`: generate, embed, score, classify.

    `pass_` is how many of `known` must be right: all, a number or a percentage. `slow` is a percentage of the fleet's
    median of tokens/s. `compare` and `on_slow`: warn, fail, off.
    """

    task: str = "generate"
    prompts: tuple[str, ...] = ()
    max_tokens: int = 16
    timeout: float = 120.0  # seconds for one answer
    known: tuple[Known, ...] = ()
    pass_: str = "all"  # noqa: S105  a rule, no password
    compare: str = "warn"
    slow: str = "70%"
    on_slow: str = "warn"


@dataclass(frozen=True)
class Drain:
    """Commands that take a replica out of whatever routes to it, and put it back. Run without a shell.

    `limit` is in seconds of waiting for its requests, `timeout` in seconds for one command. `where`: controller, host.
    """

    out: tuple[str, ...]
    back: tuple[str, ...]
    limit: float = 60.0
    timeout: float = 30.0
    where: str = "controller"


@dataclass(frozen=True)
class Service:
    """One vLLM deployment. `gpus` is per replica, 0 = the host's GPUs shared out evenly. `args` go to vLLM as they are."""

    name: str
    model: str
    port: int = 8000
    host: str = "0.0.0.0"  # noqa: S104  vLLM's own default; preflight speaks up when no key guards it
    served_name: str = ""  # empty = model
    replicas: int = 1
    gpus: int = 0
    nodes: int = 1
    tensor_parallel_size: int | str = "auto"
    args: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    secrets: Mapping[str, Secret] = field(default_factory=dict)  # environment name -> secret
    image: Image | None = None
    registry: Registry | None = None
    hardened: bool = False
    network: str = "host"
    ipc: str = "host"
    shm_size: str = ""
    ulimits: Mapping[str, int] = field(default_factory=lambda: {"memlock": -1, "nofile": 65536})
    volumes: tuple[str, ...] = ()
    restart: str = "unless-stopped"
    stop_grace: float = 60.0  # seconds
    vram_wait: float = 30.0  # seconds without any fall of the GPUs' memory after a stop
    progress_deadline: float = 1800.0  # seconds without progress of the start-up
    hosts: str = ""  # a host pattern; empty = every host that resolves this service
    verify: Verify = Verify()
    drain: Drain | None = None


@dataclass(frozen=True)
class Sideload:
    """How images go over SSH. `limit` (`50MB/s`, `400Mbit/s`) is shared by all hosts of a run; the smallest one counts."""

    limit: str = ""
    stall: float = 60.0  # seconds in which nothing moves, after which a new connection is made
    wait: float = 180.0  # seconds for a host whose connection broke to be reached again
    keep: float = 7.0  # days that what arrived of a failed transfer stays on the host
    from_builder: bool = True  # straight, where the image was built there and the host reaches it
    builder_address: str = ""  # of the builder's own settings: where hosts reach it; empty = its ansible_host
    builder_port: int = 5444  # of the builder's own settings

    @property
    def keep_seconds(self) -> float:
        return self.keep * 86400


@dataclass(frozen=True)
class Relay:
    """One host of a group gets the images and serves them to the others. `host` is a host's name or `auto`.

    `image` is that of CNCF Distribution, the registry. `address` is where the others reach the relay; empty is its
    `ansible_host`.
    """

    host: str = "auto"
    image: Image = Image("fleet-relay", prebuilt="registry:2")
    address: str = ""
    port: int = 5443
    keep: bool = False


@dataclass(frozen=True)
class Nightly:
    """`canary` is a number of hosts or a host pattern, `regression` a percentage, `load` in seconds, `keep` in nights.

    `schedule` is HH:MM with days in front or none, `jitter` in minutes.
    """

    canary: int | str = 1
    promote: str = "auto"  # or manual
    regression: str = "10%"
    load: float = 30.0
    hook: tuple[str, ...] = ()
    keep: int = 60
    schedule: str = "02:30"
    jitter: int = 15


@dataclass(frozen=True)
class Retention:
    """What `prune` leaves: the `keep` newest releases of each image, and the controller's `logs` for so many days.

    `cache` is the most that a builder's build cache may have (`100GB`), `cache_volumes` the compile caches of a host, empty is
    no limit. `registry`: prune there too.
    `free` is the least below Docker's root directory; a host with less is pruned before an image is brought to it, as is
    one where the image would not fit, which is all that an empty one asks for.
    """

    keep: int = 2
    logs: float = 90.0
    cache: str = "100GB"
    cache_volumes: str = "50GB"
    registry: bool = True
    free: str = ""


@dataclass(frozen=True)
class Settings:
    """All of `fleet:` for one host."""

    gpus: Gpus = Gpus()
    delivery: str = "registry"  # registry | sideload
    image: Image | None = None
    registry: Registry | None = None
    registries: Mapping[str, Registry] = field(default_factory=dict)  # by host, those that images come from
    builder: str = ""  # an inventory host; empty = the controller
    models_dir: str = "/srv/models"
    staging_dir: str = "/var/tmp/fleet"  # noqa: S108  survives a reboot, which a resumed transfer needs
    sideload: Sideload = Sideload()
    relay: Relay | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    drain: Drain | None = None  # of every service without one of its own
    nightly: Nightly = Nightly()
    retention: Retention = Retention()
    accept: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # finding id -> reason
