"""The anchor's long-lived keys: its TLS key and certificate, and its static SOCKS key.

Hosts pin the hash of the TLS public key (the join token carries it), so the certificate is
only the form that TLS wants: self-signed, and without an end (RFC 5280 §4.1.2.5).
"""

import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import Struct

from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir, read, write

_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_REMAKE = "Restore it from a backup; or `sojourn init --force`, and every host then needs a new token."


class Identity(Struct, frozen=True):
    """The public halves, as a join token carries them."""

    spki: bytes
    socks_key: bytes


def make(directory: ConfigDir, address: str) -> Identity:
    """Make all keys of a new anchor and write them (0600). Raises ConfigError."""
    key = ec.generate_private_key(ec.SECP256R1())
    socks = X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(directory.anchor_key, pem, private=True)
    certificate = _certificate(key, address)
    write(directory.anchor_certificate, certificate.public_bytes(Encoding.PEM), private=True)
    write(directory.socks_key, socks.private_bytes_raw().hex() + "\n", private=True)
    return Identity(spki_hash(certificate), socks.public_key().public_bytes_raw())


def load(directory: ConfigDir) -> Identity:
    """Read the public halves of an anchor's keys. Raises ConfigError."""
    path = directory.anchor_certificate
    try:
        certificate = x509.load_pem_x509_certificate(read(path, _REMAKE))
    except ValueError as error:
        raise ConfigError(str(path), "is not a certificate", _REMAKE) from error
    _check_key(directory, certificate)
    path = directory.socks_key
    try:
        socks = X25519PrivateKey.from_private_bytes(bytes.fromhex(read(path, _REMAKE, private=True).decode()))
    except ValueError as error:
        raise ConfigError(str(path), "is not an X25519 key", _REMAKE) from error
    return Identity(spki_hash(certificate), socks.public_key().public_bytes_raw())


def _check_key(directory: ConfigDir, certificate: x509.Certificate) -> None:
    path = directory.anchor_key
    try:
        key = load_pem_private_key(read(path, _REMAKE, private=True), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(str(path), "is not a private key", _REMAKE) from error
    if key.public_key() != certificate.public_key():
        raise ConfigError(str(path), f"is not the key of {directory.anchor_certificate.name}", _REMAKE)


def spki_hash(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _certificate(key: ec.EllipticCurvePrivateKey, address: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Sojourn anchor")])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        alternative = x509.DNSName(address)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))  # hosts' clocks may be wrong
        .not_valid_after(_NO_END)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
