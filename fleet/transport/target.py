"""How one server is reached, as values: what the inventory says over what `ssh -G` says."""

import getpass
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.inventory.model import Connection
from fleet.secret import Secret

ALIVE_INTERVAL = 15.0  # seconds; ServerAliveInterval where the configuration is silent
CONNECT_TIMEOUT = 10.0  # seconds; ConnectTimeout where the configuration is silent

# OpenSSH's own list (ssh_config(5), IdentityFile); -G prints it when nothing else was asked for.
DEFAULT_IDENTITIES = tuple(
    f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
)
# Options that change who is trusted or how one logs in, and that paramiko has no way to follow.
UNSUPPORTED: Mapping[str, tuple[str, ...]] = {
    "knownhostscommand": ("none",),
    "revokedhostkeys": ("none",),
    "verifyhostkeydns": ("false", "no"),
    "pkcs11provider": ("none",),
    "hostbasedauthentication": ("no", "false"),
    "remotecommand": ("none",),
    "bindinterface": ("none",),
    "certificatefile": ("none",),
}
SHORT_WITH_VALUE = frozenset("BbcDEeFIiJLlmOopQRSWw")
JUMP_DESTINATION = re.compile(r"^[A-Za-z0-9_.@:\[\]%+-]+$")


@dataclass(frozen=True)
class Hop:
    """A jump host as somebody wrote it, and the ssh options that belong to it alone."""

    destination: str  # [user@]host
    port: int | None = None
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.destination}:{self.port}" if self.port else self.destination


@dataclass(frozen=True)
class Target:
    """Everything needed to open one connection. Paths are expanded; empty means none."""

    label: str  # how people know it: the inventory name, or "bastion user@host"
    hostname: str
    port: int
    user: str
    identities: tuple[str, ...] = ()  # asked for by name; tried first
    fallback_identities: tuple[str, ...] = ()  # OpenSSH's defaults, and for a bastion the keys of the host behind it
    identities_only: bool = False
    agent: str = "SSH_AUTH_SOCK"  # a socket path, the environment variable's name, or empty
    password: Secret | None = None
    password_allowed: bool = True
    public_key_allowed: bool = True
    jumps: tuple[Hop, ...] = ()
    proxy_command: str = ""
    connect_timeout: float = CONNECT_TIMEOUT
    alive_interval: float = ALIVE_INTERVAL
    alive_count: int = 3
    known_hosts: tuple[str, ...] = ()  # the user's files, the first one is written to
    global_known_hosts: tuple[str, ...] = ()
    host_key_alias: str = ""
    strict: str = "ask"  # yes, ask, accept-new, no
    hash_names: bool = False
    bind_address: str = ""
    config_file: str = ""  # -F, which jump hosts inherit as they do in OpenSSH
    unsupported: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return bracketed(self.hostname, self.port)

    @property
    def known_name(self) -> str:
        """The name in known_hosts: [host]:port unless the port is 22; HostKeyAlias as it is."""
        return self.host_key_alias or bracketed(self.hostname.lower(), self.port)


def bracketed(hostname: str, port: int) -> str:
    return hostname if port == 22 else f"[{hostname}]:{port}"


def query(connection: Connection) -> tuple[str, ...]:
    """The `ssh -G` command for a host. ssh takes the first value it meets, so the inventory's variables lead."""
    command: list[str] = ["ssh", "-G"]
    if connection.port is not None:
        command += ["-p", str(connection.port)]
    if connection.user:
        command += ["-l", connection.user]
    if connection.key_file:
        command += ["-i", connection.key_file]
    return (*command, *connection.common_args, "--", connection.address.strip("[]"))


def hop_query(hop: Hop, config_file: str) -> tuple[str, ...]:
    """The `ssh -G` command for a jump host; like OpenSSH's own, it inherits only the configuration file."""
    config = ("-F", config_file) if config_file and "-F" not in hop.args else ()
    port = ("-p", str(hop.port)) if hop.port else ()
    user, at, name = hop.destination.rpartition("@")
    login = ("-l", user) if at else ()
    return ("ssh", "-G", *port, *login, *config, *hop.args, "--", name.strip("[]"))


def parse(label: str, name: str, printed: str, *, config_file: str = "", password: Secret | None = None) -> Target:
    """A Target from the text that `ssh -G` printed for `name`."""
    options: dict[str, list[str]] = {}
    for line in printed.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key.lower(), []).append(value.strip())

    def first(key: str, default: str = "") -> str:
        value = options.get(key, [default])[0]
        return default if value.lower() == "none" else value

    hostname = first("hostname", name).strip("[]")
    port = int(first("port", "22"))
    user = first("user") or getpass.getuser()
    tokens = {
        "%": "%",
        "h": hostname,
        "n": name,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
        "d": str(Path.home()),
    }
    identities = [path for path in options.get("identityfile", []) if path.lower() != "none"]
    asked = tuple(_path(path, tokens) for path in identities if path not in DEFAULT_IDENTITIES)
    proxy = first("proxycommand")
    jump_text = first("proxyjump")
    plain = jump_of(proxy, tokens) if proxy else None
    return Target(
        label=label,
        hostname=hostname,
        port=port,
        user=user,
        identities=asked,
        fallback_identities=tuple(_path(path, tokens) for path in identities if path in DEFAULT_IDENTITIES),
        identities_only=_yes(first("identitiesonly")),
        agent=_agent(options.get("identityagent", ["SSH_AUTH_SOCK"])[0], tokens),
        password=password,
        password_allowed=first("passwordauthentication", "yes") not in {"no", "false"},
        public_key_allowed=first("pubkeyauthentication", "yes") not in {"no", "false"},
        jumps=(plain,) if plain else hops(jump_text),
        proxy_command="" if plain or not proxy else expand(proxy, tokens),
        connect_timeout=_seconds(first("connecttimeout"), CONNECT_TIMEOUT),
        alive_interval=_seconds(first("serveraliveinterval"), ALIVE_INTERVAL),
        alive_count=int(first("serveralivecountmax", "3")),
        known_hosts=_paths(first("userknownhostsfile"), tokens),
        global_known_hosts=_paths(first("globalknownhostsfile"), tokens),
        host_key_alias=first("hostkeyalias"),
        strict=_strict(first("stricthostkeychecking", "ask")),
        hash_names=_yes(first("hashknownhosts")),
        bind_address=first("bindaddress"),
        config_file=config_file,
        unsupported=tuple(
            f"{key} {values[0]}"
            for key, silent in UNSUPPORTED.items()
            if (values := options.get(key)) and values[0].lower() not in silent
        ),
    )


def hops(text: str) -> tuple[Hop, ...]:
    """ProxyJump's `[user@]host[:port],…`, IPv6 in brackets, `ssh://` allowed; the last is nearest to the host."""
    found = []
    for item in filter(None, (part.strip().removeprefix("ssh://").rstrip("/") for part in text.split(","))):
        user, at, rest = item.rpartition("@")
        bracket = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?", rest)
        plain = re.fullmatch(r"([^:]+):(\d+)", rest)
        match = bracket or plain
        name, port = (match.group(1), match.group(2)) if match else (rest, None)
        found.append(Hop(f"{user}{at}{name}", int(port) if port else None))
    return tuple(found)


def jump_of(command: str, tokens: Mapping[str, str]) -> Hop | None:
    """The jump host in Ansible's old habit `ssh [options] -W %h:%p [user@]bastion`, or None for any other command.

    Recognised because such hosts then share one connection to the bastion.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or Path(words[0]).name != "ssh":
        return None
    wanted = {"%h:%p", "[%h]:%p", f"{tokens['h']}:{tokens['p']}", f"[{tokens['h']}]:{tokens['p']}"}
    destination, through, args = "", "", []
    index = 1
    while index < len(words):
        word = words[index]
        index += 1
        if not word.startswith("-"):
            if destination:
                return None  # a command of its own for the bastion
            destination = word
            continue
        letter = word[1:2]
        if word == "--":
            continue
        if letter not in SHORT_WITH_VALUE:
            continue  # -q, -T, -x, …: say nothing about the way
        value = word[2:]
        if not value:
            if index >= len(words):
                return None
            value = words[index]
            index += 1
        if letter == "W":
            through = value
        elif letter in "iFlopJ":
            args += [f"-{letter}", value]
        else:
            return None
    if through not in wanted or not JUMP_DESTINATION.match(destination):
        return None
    return Hop(destination, None, tuple(args))


def behind(bastion: Target, host: Target) -> Target:
    """A bastion with what only the inventory knows: the host's keys and known_hosts files, after its own."""
    own = (*bastion.identities, *bastion.fallback_identities)
    return replace(
        bastion,
        fallback_identities=(*bastion.fallback_identities, *(key for key in host.identities if key not in own)),
        known_hosts=tuple(dict.fromkeys((*bastion.known_hosts, *host.known_hosts))),
    )


def config_file_of(args: Sequence[str]) -> str:
    """The value of `-F` in ssh's arguments."""
    for index, word in enumerate(args):
        if word == "-F" and index + 1 < len(args):
            return args[index + 1]
        if word.startswith("-F") and len(word) > 2:
            return word[2:]
    return ""


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """ssh_config(5)'s %-tokens."""
    return re.sub(r"%([%hnprud])", lambda match: tokens[match.group(1)], text)


def _path(text: str, tokens: Mapping[str, str]) -> str:
    return str(Path(expand(text, tokens)).expanduser())


def _paths(text: str, tokens: Mapping[str, str]) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return tuple(_path(word, tokens) for word in words)


def _agent(text: str, tokens: Mapping[str, str]) -> str:
    if text.lower() == "none":
        return ""
    return text.removeprefix("$") if text.startswith("$") or "/" not in text else _path(text, tokens)


def _yes(text: str) -> bool:
    return text in {"yes", "true"}


def _seconds(text: str, default: float) -> float:
    return float(text) if text.isdigit() and int(text) else default


def _strict(text: str) -> str:
    return {"true": "yes", "false": "no", "off": "no"}.get(text, text)
