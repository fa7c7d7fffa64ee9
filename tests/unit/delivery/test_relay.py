"""A relay's registry and CA: what it runs with, who is trusted, and what a host tells of it."""

import datetime as dt
import ipaddress
import json
import stat
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.delivery.relay import LABEL, StartRelay, configuration, container, location, packed, parse
from fleet.delivery.site_ca import SLACK, SiteCa
from fleet.delivery.staging import Staging
from fleet.errors import FleetError

NOW = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
HEX = "ab" * 32


def test_the_ca_is_made_once_and_its_key_is_nobody_elses(tmp_path: Path) -> None:
    ca = SiteCa(tmp_path / ".fleet")
    assert ca.fingerprint == ""
    ca.ensure(NOW)
    first = ca.fingerprint
    ca.ensure(NOW + dt.timedelta(days=9))
    assert ca.fingerprint == first
    assert len(first) == 64
    assert stat.S_IMODE(ca.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.key.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5", "relay.site"])
def test_a_servers_certificate_is_for_its_address_and_bears_clocks_that_are_off(tmp_path: Path, address: str) -> None:
    ca = SiteCa(tmp_path)
    ca.ensure(NOW)
    certificate, key = ca.server(address, NOW)
    made, signer = (x509.load_pem_x509_certificate(one) for one in (certificate, ca.certificate.read_bytes()))
    made.verify_directly_issued_by(signer)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ips = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    assert ips + names.get_values_for_type(x509.DNSName) == [address]
    assert all(ipaddress.ip_address(one) for one in ips)
    assert made.not_valid_before_utc == NOW - SLACK
    assert made.not_valid_after_utc - NOW < dt.timedelta(days=60)
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(signer.public_key(), ec.EllipticCurvePublicKey)
    assert b"PRIVATE KEY" in key


def test_a_ca_that_cannot_be_read_says_what_to_remove(tmp_path: Path) -> None:
    ca = SiteCa(tmp_path)
    ca.ensure(NOW)
    ca.key.write_text("nothing")
    with pytest.raises(FleetError) as caught:
        ca.server("10.0.0.5", NOW)
    assert str(ca.key.parent) in caught.value.hint


def test_the_registry_is_read_only_secured_and_bound_to_its_address() -> None:
    document = json.loads(configuration("10.0.0.5:5443", "s"))
    assert document["http"]["addr"] == "10.0.0.5:5443"
    assert set(document["http"]["tls"]) == {"certificate", "key"}
    assert document["storage"]["maintenance"] == {"uploadpurging": {"enabled": False}, "readonly": {"enabled": True}}
    assert document["auth"]["htpasswd"]["path"] == "/relay/htpasswd"


@pytest.mark.parametrize(("keep", "policy"), [(False, "no"), (True, "unless-stopped")])
def test_the_container_may_write_nothing_and_is_labelled_as_ours(keep: bool, policy: str) -> None:
    made = container(StartRelay("10.0.0.5:5443", "fleet-relay:r", keep, ""), "/var/tmp/fleet")
    host = made["HostConfig"]
    assert made["Labels"][LABEL] == "1"
    assert {one["Source"] for one in host["Mounts"]} == {"/var/tmp/fleet/relay/run", "/var/tmp/fleet/relay/store"}
    assert all(one["ReadOnly"] for one in host["Mounts"])
    assert host["ReadonlyRootfs"]
    assert host["RestartPolicy"]["Name"] == policy
    assert not [word for word in made["Env"] if "PASS" in word]


def test_what_it_runs_with_travels_as_files_for_one_user() -> None:
    with tarfile.open(fileobj=BytesIO(packed({"htpasswd": b"x", "config.yml": b"y"}))) as tar:
        assert [(one.name, one.mode) for one in tar] == [("config.yml", 0o600), ("htpasswd", 0o600)]


def test_a_place_is_written_as_in_an_images_name() -> None:
    assert location("10.0.0.5", 5443) == "10.0.0.5:5443"
    assert location("fd00::5", 5443) == "[fd00::5]:5443"


def test_a_host_tells_its_store_its_trust_and_what_was_left() -> None:
    lines = [
        "motd of the site",
        f"fleet-staging stored 7 {HEX}",
        f"fleet-staging trust {HEX} 10.0.0.5:5443",
        "fleet-staging stored x y",
        "fleet-staging run",
    ]
    found = parse(lines, Staging("/var/tmp/fleet"), left=False)
    assert found.blobs == {f"sha256:{HEX}": 7}
    assert found.trusts == {"10.0.0.5:5443": HEX}
    assert found.left
    assert not parse(lines[:-1], Staging(), left=False).left
