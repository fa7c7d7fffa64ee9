"""The site's own CA: made once below `.fleet/`, it signs the certificates of relays and nothing else.

.fleet/relay/ca.crt     what hosts put into certs.d while they pull from a relay
.fleet/relay/ca.key     0600, in a directory of 0700
"""

import datetime as dt
import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import FleetError

CA_DAYS, SERVER_DAYS = 3650, 30
SLACK = dt.timedelta(days=7)  # clocks of hosts are off, and without a network nobody sets them


@dataclass(frozen=True)
class SiteCa:
    """The CA of one controller's `.fleet/`."""

    root: Path

    @property
    def certificate(self) -> Path:
        return self.root / "relay/ca.crt"

    @property
    def key(self) -> Path:
        return self.root / "relay/ca.key"

    @property
    def fingerprint(self) -> str:
        """sha256 of the certificate file in hex, "" where there is none: how its copies on hosts are known as ours."""
        try:
            return hashlib.sha256(self.certificate.read_bytes()).hexdigest()
        except OSError:
            return ""

    def ensure(self, now: dt.datetime) -> None:
        """Make it where it is not. Raises FleetError."""
        try:
            if self.certificate.is_file() and self.key.is_file():
                return
            self.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            key, certificate = _make_ca(now)
            # The key first: a certificate without its key would be no CA, and would not be made anew.
            _write(self.key, _pem_of(key), 0o600)
            _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        except OSError as error:
            raise FleetError(f"the site's CA in {self.certificate.parent} cannot be made: {error.strerror}") from error

    def server(self, address: str, now: dt.datetime) -> tuple[bytes, bytes]:
        """Certificate and key for a relay at `address` (an IP address or a name), PEM. Raises FleetError."""
        try:
            ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            signer = serialization.load_pem_private_key(self.key.read_bytes(), None)
        except (OSError, ValueError) as error:
            hint = f"remove {self.certificate.parent}; the next run makes another CA"
            raise FleetError(f"the site's CA cannot be read: {error}", hint=hint) from error
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise FleetError(f"{self.key} is no key that this tool made", hint=f"remove {self.certificate.parent}")
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(f"fleet relay {address}"[:64], key.public_key(), ca.subject, now, SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([_name(address)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM), _pem_of(key)


def _make_ca(now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet relays")])
    certificate = (
        _begun("fleet relays", key.public_key(), name, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _begun(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never for a moment with another mode."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)
