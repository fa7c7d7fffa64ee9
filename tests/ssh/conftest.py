import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from fleet.transport import Connector, Session
from tests.ssh.sshd import Behaviour, Sshd, known_line, new_key, running

logging.getLogger("paramiko").setLevel(logging.CRITICAL)

FAKE_SUDO = """#!/bin/sh
# Stands in for sudo: asks when the file `password` is beside it.
silent='' prompt='Password: '
while [ $# -gt 0 ]; do
  case $1 in
    -n) silent=1; shift ;;
    -k | -S) shift ;;
    -p) prompt=$2; shift 2 ;;
    -u) shift 2 ;;
    --) shift; break ;;
    *) echo "sudo: what is $1?" >&2; exit 9 ;;
  esac
done
secret=$(dirname "$0")/password
[ -f "$secret" ] || exec "$@"
[ -z "$silent" ] || { echo 'sudo: ein Passwort ist notwendig' >&2; exit 1; }
for try in 1 2 3; do
  printf %s "$prompt" >&2
  IFS= read -r line || exit 1
  [ "$line" = "$(cat "$secret")" ] && exec "$@"
done
exit 1
"""


@dataclass(frozen=True)
class Keys:
    folder: Path
    user: Path
    user_key: paramiko.PKey
    host_key: paramiko.PKey


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    path, key = new_key(folder, "user")
    return Keys(folder, path, key, new_key(folder, "host")[1])


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def sshd(keys: Keys, tmp_path: Path) -> Iterator[Sshd]:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "sudo").write_text(FAKE_SUDO)
    (bin_ / "sudo").chmod(0o755)
    with running(Behaviour([keys.host_key], [keys.user_key.asbytes()], path=str(bin_))) as server:
        yield server


@pytest.fixture
def known_hosts(sshd: Sshd, keys: Keys, tmp_path: Path) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text(known_line(sshd.port, keys.host_key))
    return path


@pytest.fixture
def events() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def connector(known_hosts: Path, events: list[tuple[str, str]]) -> Iterator[Connector]:
    with Connector(known_hosts=known_hosts, on_event=lambda host, message: events.append((host, message))) as made:
        yield made


@pytest.fixture
def session(connector: Connector, sshd: Sshd, keys: Keys) -> Session:
    return connector.connect(sshd.host(key_file=str(keys.user)))


@pytest.fixture
def state_dir(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a login that is not root keeps what a later run must know; the tests may run as root, whose is the machine's."""
    fake_id = Path(sshd.behaviour.path) / "id"
    fake_id.write_text("#!/bin/sh\necho 1000\n")
    fake_id.chmod(0o755)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/fleet"
