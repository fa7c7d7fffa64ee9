"""What a host said of what runs on it: the engine, its containers, listening ports, the packet filter. None means "could not be read"."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineConfig:
    """What /etc/docker sets for the engine's next start. `flags` are those of dockerd that have a say in it as well."""

    log_driver: str = ""  # empty = json-file, the engine's own
    log_max_size: str = ""  # empty = logs grow without end
    flags: tuple[str, ...] = ()  # --log-driver, --log-opt, --config-file
    cas: tuple[str, ...] = ()  # registries with a CA in certs.d


@dataclass(frozen=True)
class Container:
    """A running container. `ports` are the host's own (TCP), empty with host networking."""

    id: str
    name: str
    image: str
    image_id: str
    pid: int
    command: str
    service: str  # the service of ours that it belongs to, or empty
    network: str
    ports: tuple[int, ...]
    devices: tuple[str, ...]
    privileged: bool = False


@dataclass(frozen=True)
class Docker:
    """The engine as its CLI shows it. `state`: running, stopped, forbidden, no-cli, or None when nobody looked."""

    state: str | None = None
    error: str = ""
    cli_version: str | None = None
    version: str | None = None
    api_version: str | None = None
    storage_driver: str | None = None
    image_store: str | None = None  # classic | containerd
    root_dir: str | None = None
    rootless: bool | None = None
    desktop: bool | None = None
    cgroup_version: int | None = None
    cgroup_driver: str | None = None
    security: tuple[str, ...] = ()
    buildx: str | None = None  # version of the CLI's plugin; None = none seen
    containers: tuple[Container, ...] | None = None
    config: EngineConfig | None = None
    insecure: tuple[str, ...] | None = None  # registries that it may pull from without TLS, by host or as a network


@dataclass(frozen=True)
class Listener:
    """A listening TCP port. pid and command are None without the right to see them."""

    address: str
    port: int
    pid: int | None = None
    command: str | None = None
    container: str = ""


@dataclass(frozen=True)
class Chain:
    """One chain. `base` is set for those that hang on the input hook themselves; then `policy` is accept or drop."""

    syntax: str  # nft | iptables
    table: str
    name: str
    base: bool = False
    policy: str = "accept"
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Firewall:
    """`tools` are those in PATH. `chains` are the input hook's and those they may jump to; None when unreadable."""

    tools: tuple[str, ...] = ()  # nft, iptables, firewalld, ufw
    chains: tuple[Chain, ...] | None = None
