"""The anchor's keys."""

import hashlib
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from sojourn.errors import ConfigError
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir


@pytest.fixture
def directory(tmp_path: Path) -> ConfigDir:
    return ConfigDir(str(tmp_path))


def test_what_was_made_is_what_is_loaded(directory: ConfigDir) -> None:
    assert keys.make(directory, "192.0.2.1") == keys.load(directory)


def test_keys_are_private_and_each_anchor_has_its_own(directory: ConfigDir) -> None:
    first = keys.make(directory, "a.example")
    for path in (directory.anchor_key, directory.anchor_certificate, directory.socks_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = keys.make(directory, "a.example")
    assert first.spki != second.spki
    assert first.socks_key != second.socks_key


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "anchor.example.org"])
def test_the_certificate_is_for_the_key_and_the_address_and_has_no_end(directory: ConfigDir, address: str) -> None:
    identity = keys.make(directory, address)
    key = load_pem_private_key(directory.anchor_key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(directory.anchor_certificate.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert identity.spki == hashlib.sha256(spki).digest()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [address]
    assert certificate.not_valid_after_utc.year == 9999


def test_the_standard_library_s_tls_takes_the_pair(directory: ConfigDir) -> None:
    keys.make(directory, "192.0.2.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory.anchor_certificate, directory.anchor_key)


@pytest.mark.parametrize("name", ["anchor.crt", "socks.key"])
def test_a_damaged_key_is_named(directory: ConfigDir, name: str) -> None:
    keys.make(directory, "192.0.2.1")
    (directory.path / name).write_text("nonsense")
    with pytest.raises(ConfigError, match=f"{name}: is not"):
        keys.load(directory)


def test_a_key_that_is_not_the_certificate_s_or_none_at_all_is_named(directory: ConfigDir, tmp_path: Path) -> None:
    keys.make(directory, "a.example")
    other = ConfigDir(str(tmp_path / "other"))
    keys.make(other, "a.example")
    directory.anchor_key.write_bytes(other.anchor_key.read_bytes())
    with pytest.raises(ConfigError, match=r"anchor\.key: is not the key of anchor\.crt\. Restore it from a backup"):
        keys.load(directory)
    directory.anchor_key.write_text("garbage")
    with pytest.raises(ConfigError, match=r"anchor\.key: is not a private key"):
        keys.load(directory)
