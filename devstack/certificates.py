"""A certificate authority of a few lines, for TLS between a test and a broker on this machine."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack.private_files import write_private
from devstack.processes import LOOPBACK

LIFETIME = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Two PEM files: the server's key with its chain, and the authority to trust."""

    server_file: Path
    ca_file: Path


def ensure_certificates(folder: Path, *, host: str = LOOPBACK) -> Certificates:
    """Give the folder an authority and a certificate for ``localhost`` and the address ``host``.

    What stands there already stays, so that clients still trust the server when
    it comes back. The authority's key is kept nowhere; the server's file can be
    read by its owner alone.
    """
    made = Certificates(server_file=folder / "broker.pem", ca_file=folder / "ca.pem")
    if not made.server_file.exists():
        _write(made, host, datetime.now(UTC))
    return made


def _write(made: Certificates, host: str, now: datetime) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Keepword laptop authority")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _builder(_name("localhost"), ca_name, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address(host))]
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    ca_pem = ca.public_bytes(serialization.Encoding.PEM)
    server_pem = server.public_bytes(serialization.Encoding.PEM)
    key_pem = server_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made.ca_file.write_bytes(ca_pem)
    # Last: where it stands, both are complete.
    write_private(made.server_file, key_pem + server_pem + ca_pem)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )
