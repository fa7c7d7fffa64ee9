"""What an administrator copies and runs where nobody of ours is root."""

from pathlib import Path

from fleet.delivery.by_hand import place_ca
from fleet.inventory.model import Connection


def test_two_lines_that_can_be_copied(tmp_path: Path) -> None:
    ca = tmp_path / "our ca.pem"
    connection = Connection("10.0.0.5", 2222, "dev", "/keys/id", None, ("-o", "ProxyJump=jump@gate"))
    here, there = place_ca(connection, "dev", "registry.corp:5000", str(ca))
    assert here == (f"scp -o ProxyJump=jump@gate -P 2222 -i /keys/id '{ca}' dev@10.0.0.5:registry.corp-5000-ca.crt")
    assert there == "install -D -m 644 ~dev/registry.corp-5000-ca.crt /etc/docker/certs.d/registry.corp:5000/ca.crt"


def test_an_ipv6_address_stands_in_brackets() -> None:
    here, _ = place_ca(Connection("fd00::5"), "dev", "registry:5000", "/ca.pem")
    assert here == "scp /ca.pem 'dev@[fd00::5]:registry-5000-ca.crt'"
