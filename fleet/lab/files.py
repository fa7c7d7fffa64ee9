"""The files that make a root filesystem into a particular node: pure values, written into its upper layer."""

import json
import re
import struct
from dataclasses import dataclass

from fleet.lab.gpu_model import RENDER_GID
from fleet.lab.topology import REGISTRY_PORT, NodeSpec, Topology

USER_ID = 1000
MODEL = "tiny-chat"
# What of the machine's own root a `host` node sees; all else at the top is hidden from it.
VISIBLE = frozenset({"bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var"})
# Directories that are empty on a node whatever the machine has in them.
EMPTY = (
    "boot",
    "dev",
    "etc/docker",
    "etc/ssh",
    "etc/sudoers.d",
    "home",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/local",
    "var/cache",
    "var/lib/containerd",
    "var/lib/docker",
    "var/lib/docker-registry",
    "var/lib/fleet",
    "var/lib/fleet-lab",
    "var/log",
    "var/spool",
    "var/tmp",
)
MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "var/lib/docker": 0o710}

SSHD_CONFIG = """\
# Debian's defaults, MaxStartups among them; without PAM, which wants an audit and a login session of its own.
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""

REGISTRY_CONFIG = f"""\
version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: /var/lib/registry}}
  delete: {{enabled: true}}
http:
  addr: :{REGISTRY_PORT}
  secret: one-instance-needs-no-shared-secret
  tls: {{certificate: /etc/docker/registry/registry.pem, key: /etc/docker/registry/registry.key}}
auth:
  htpasswd: {{realm: fleet-lab, path: /etc/docker/registry/htpasswd}}
"""
# Debian's own /etc/init.d/docker-registry reads it, so that `service docker-registry` on the node means the lab's daemon.
REGISTRY_DEFAULT = """\
EXECUSER=root
PIDFILE=/run/lab.registry.pid
LOGFILE=/var/log/registry.log
"""


@dataclass(frozen=True)
class File:
    """One file of a node. Its parent directories belong to root, or to `uid` inside a home."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def home(user: str) -> str:
    return "/root" if user == "root" else f"/home/{user}"


def accounts(passwd: str, group: str, shadow: str, user: str) -> tuple[str, str, str]:
    """The three account files with `user` added, and with the groups that a GPU node has.

    `dev` is in the docker group, nobody else is. Passwords are `*`: no login by password, and not locked either, which
    sshd without PAM would take for "no login at all".
    """
    passwd = _without(passwd, r"[^:]*:[^:]*:1000:")
    group = _without(_without(group, rf"[^:]*:[^:]*:(?:{RENDER_GID}|{USER_ID}):"), r"(?:render|docker):")
    number = next(number for number in range(900, 999) if f":{number}:" not in group)
    group += f"render:x:{RENDER_GID}:\ndocker:x:{number}:{'dev' if user == 'dev' else ''}\n"
    shadow = re.sub(r"^root:[^:]*:", "root:*:", shadow, flags=re.MULTILINE)
    if user != "root":
        passwd += f"{user}:x:{USER_ID}:{USER_ID}:{user}:{home(user)}:/bin/bash\n"
        group += f"{user}:x:{USER_ID}:\n"
        shadow += f"{user}:*:20000:0:99999:7:::\n"
    return passwd, group, shadow


def _without(text: str, pattern: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not re.match(pattern, line))


def node_files(topology: Topology, spec: NodeSpec, public_key: str, machine_id: str) -> tuple[File, ...]:
    """Everything a node is given beside its accounts, its host keys and the GPU profile."""
    owner = 0 if spec.user == "root" else USER_ID
    found = [
        _text("/etc/hostname", f"{spec.name}\n"),
        _text("/etc/hosts", hosts_file(topology, spec)),
        _text("/etc/machine-id", f"{machine_id}\n", 0o444),
        _text("/etc/resolv.conf", "# nothing comes from outside\n"),
        _text("/etc/ssh/sshd_config", SSHD_CONFIG),
        _text("/usr/local/share/fleet-lab", "This node is pretended by fleet.lab.\n"),
        File(f"{home(spec.user)}/.ssh/authorized_keys", public_key.encode(), 0o600, owner, owner),
    ]
    if spec.user == "ops":
        found.append(_text("/etc/sudoers.d/ops", "ops ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440))
    if spec.engine:
        found.append(_text("/etc/docker/daemon.json", daemon_json(spec)))
    if spec.role == "gpu":
        found += model_files()
    return tuple(found)


def hosts_file(topology: Topology, spec: NodeSpec) -> str:
    """Names for the addresses that the node can reach, itself first."""
    lines = ["127.0.0.1 localhost", f"{topology.address(spec.name)} {spec.name}"]
    mine = {link.bridge for link in topology.links(spec.name)}
    for other in topology.specs:
        near = [link.address for link in topology.links(other.name) if link.bridge in mine]
        if near and other.name != spec.name:
            lines.append(f"{near[0]} {other.name}")
    return "\n".join(lines) + "\n"


def daemon_json(spec: NodeSpec) -> str:
    """The engine's settings: only what differs from its defaults."""
    return json.dumps({"features": {"containerd-snapshotter": True}} if spec.containerd_store else {}, indent=2) + "\n"


def model_files() -> list[File]:
    """A directory that looks like a model of a few kilobytes: a Llama with 32 heads that knows nothing."""
    directory = f"/srv/models/{MODEL}"
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "num_hidden_layers": 2,
        "vocab_size": 256,
        "max_position_embeddings": 32768,
    }
    size = 4096
    tensor = {"model.embed_tokens.weight": {"dtype": "BF16", "shape": [32, 64], "data_offsets": [0, size]}}
    header = json.dumps(tensor).encode()
    return [
        _text(f"{directory}/config.json", json.dumps(config, indent=2) + "\n"),
        # The safetensors format: the header's length in 8 bytes, the header, the numbers.
        File(f"{directory}/model.safetensors", struct.pack("<Q", len(header)) + header + bytes(size)),
    ]


def _text(path: str, content: str, mode: int = 0o644) -> File:
    return File(path, content.encode(), mode)
