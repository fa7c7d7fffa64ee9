"""The lab's secrets, all its own: a CA, the registry's certificate and login, ssh keys of nodes and controller."""

import secrets
from pathlib import Path

from fleet.lab import host
from fleet.lab.paths import Paths
from fleet.lab.topology import Topology

DAYS = "365"
HOST_KEY_TYPES = ("ed25519", "ecdsa")  # two, as real hosts have several; an RSA key would cost a third of a second


def make(paths: Paths, topology: Topology) -> None:
    """Make whatever is missing of the lab's keys; what is there stays, so a repaired lab keeps its identity."""
    paths.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not paths.client_key.exists():
        ssh_key(paths.client_key, "ed25519", f"fleet lab {topology.name}")
    if topology.role("registry"):
        _registry(paths, topology)


def ssh_key(path: Path, kind: str, comment: str) -> None:
    """Make an OpenSSH key pair at `path` and `path`.pub, without a passphrase."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    host.run(("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path)))


def host_key_path(upper: Path, kind: str) -> Path:
    """Where a node keeps its host key, seen from the machine."""
    return upper / f"etc/ssh/ssh_host_{kind}_key"


def host_keys(upper: Path, name: str) -> None:
    """Make a node's host keys unless it has them."""
    for kind in HOST_KEY_TYPES:
        path = host_key_path(upper, kind)
        if not path.with_suffix(".pub").exists():
            ssh_key(path, kind, name)


def write_known_hosts(paths: Paths, topology: Topology) -> None:
    """Write every node's public keys under its name and addresses."""
    lines = []
    for spec in topology.specs:
        names = ",".join((spec.name, *(link.address for link in topology.links(spec.name))))
        for kind in HOST_KEY_TYPES:
            public = host_key_path(paths.node(spec.name).upper, kind).with_suffix(".pub").read_text()
            lines.append(f"{names} {' '.join(public.split()[:2])}\n")
    paths.known_hosts.write_text("".join(lines))


def write_ssh_config(paths: Paths, topology: Topology) -> None:
    """Write a client configuration by which `ssh -F … NAME` reaches every node, the offline ones through the bastion."""
    bastion = topology.role("bastion")
    blocks = []
    for spec in topology.specs:
        lines = [f"Host {spec.name}", f"  HostName {topology.address(spec.name)}", f"  User {spec.user}"]
        if spec.offline and bastion:
            lines.append(f"  ProxyJump {bastion.name}")
        blocks.append("\n".join(lines))
    common = (
        "Host *",
        f"  IdentityFile {paths.client_key}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {paths.known_hosts}",
        "  StrictHostKeyChecking yes",
    )
    paths.ssh_config.write_text("\n".join((*blocks, *common)) + "\n")


def _registry(paths: Paths, topology: Topology) -> None:
    if not paths.registry_password.exists():
        paths.registry_user.write_text("fleet\n")
        paths.registry_password.write_text(secrets.token_urlsafe(18) + "\n")
        for file in (paths.registry_user, paths.registry_password):
            file.chmod(0o600)
    htpasswd = paths.keys / "htpasswd"
    if not htpasswd.exists():
        # By stdin: a password on a command line can be read by everybody.
        made = host.run(("htpasswd", "-niBC", "8", "fleet"), stdin=paths.registry_password.read_text().strip())
        htpasswd.write_text(made.stdout.strip() + "\n")
    certificate = paths.keys / "registry.pem"
    if not certificate.exists():
        _certificates(paths, topology, certificate)


def _certificates(paths: Paths, topology: Topology, certificate: Path) -> None:
    key, request = paths.keys / "registry.key", paths.keys / "registry.csr"
    ca_key = paths.keys / "ca.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    ca_use = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    ca_name = ("-subj", f"/CN=fleet lab {topology.name} CA")
    host.run(
        (
            "openssl",
            "req",
            "-x509",
            *curve,
            "-days",
            DAYS,
            *ca_name,
            *ca_use,
            "-keyout",
            str(ca_key),
            "-out",
            str(paths.ca),
        )
    )
    host.run(("openssl", "req", *curve, "-subj", "/CN=registry", "-keyout", str(key), "-out", str(request)))
    extensions = paths.keys / "registry.ext"
    names = f"subjectAltName=DNS:registry,IP:{topology.registry.partition(':')[0]}"
    extensions.write_text(f"{names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    signing = ("-CA", str(paths.ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", DAYS)
    files = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
    host.run(("openssl", "x509", "-req", *files, *signing))
