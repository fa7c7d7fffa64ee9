"""When OpenSSH's client may carry the bulk, and how it is called."""

from fleet.inventory.model import Become, Connection
from fleet.secret import Secret
from fleet.transport.openssh import Bulk, bulk

SECRET = Secret("password", literal="hunter2")


def test_it_goes_where_the_first_connection_went() -> None:
    way = bulk(Connection("10.0.0.7", 2222, "ops", "/keys/id", common_args=("-o", "ProxyJump=jump@gate")), "ops")
    assert isinstance(way, Bulk)
    argv = way.argv(("sh", "-c", "cat > 'a b'"))
    assert argv[:2] == ("ssh", "-T")
    target = ("-p", "2222", "-l", "ops", "-i", "/keys/id", "-o", "ProxyJump=jump@gate", "--", "10.0.0.7")
    assert argv[-11:-1] == target
    assert "BatchMode=yes" in argv
    assert "StrictHostKeyChecking=yes" in argv
    assert argv[-1] == """sh -c 'cat > '"'"'a b'"'"''"""


def test_it_becomes_who_the_inventory_names() -> None:
    way = bulk(Connection("h", become=Become(True, "root")), "ops")
    assert isinstance(way, Bulk)
    assert way.argv(("true",))[-1] == "sudo -n -u root -- true"
    already = bulk(Connection("h", become=Become(True, "root")), "root")
    assert isinstance(already, Bulk)
    assert already.argv(("true",))[-1] == "true"


def test_passwords_keep_the_bulk_on_the_first_connection() -> None:
    assert bulk(Connection("h", password=SECRET), "ops") == "its log-in is by password"
    assert bulk(Connection("h", become=Become(True, "root", SECRET)), "ops") == "sudo asks for a password there"
