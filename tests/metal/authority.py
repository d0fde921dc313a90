"""A certificate authority made in a test, and server certificates for 127.0.0.1 by it."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certified:
    """Paths of PEM files: the authority's certificate, the server's, and the server's key."""

    authority: Path
    certificate: Path
    key: Path


def certify(folder: Path, address: str = "127.0.0.1") -> Certified:
    """A new authority and a certificate by it, valid for `address` from yesterday until tomorrow."""
    folder.mkdir(parents=True, exist_ok=True)
    top, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("authority of a test")
    root = _builder(issuer, issuer, top.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(top, hashes.SHA256())
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    server = _builder(_name("bmc of a test"), issuer, leaf.public_key()).add_extension(alternative, critical=False).sign(top, hashes.SHA256())
    made = Certified(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.authority.write_bytes(root.public_bytes(Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(Encoding.PEM))
    made.key.write_bytes(leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made.key.chmod(0o600)
    return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - DAY, now + DAY)
