"""Secrets and addresses are taken out of text, whatever form they have there."""

import base64
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sojourn.control.config import Credentials
from sojourn.control.socks_account import password_of
from sojourn.packet.seal import Secret
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir
from sojourn.store.scrub import GONE, Scrubber, secrets_of, written
from sojourn.store.sqlite import SqliteStore
from sojourn.upmt.records import Subscriber

KEY = bytes(range(7, 39))


@pytest.mark.parametrize(
    "form", [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(), base64.urlsafe_b64encode(KEY).decode()]
)
def test_a_known_key_is_found_in_every_form(form: str) -> None:
    cleaned = Scrubber([KEY]).clean(f"before {form} after")
    assert form.rstrip("=") not in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


@given(st.text(min_size=8, max_size=60).filter(str.isprintable), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_of_any_spelling_is_left(secret: str, before: str, after: str) -> None:
    cleaned = Scrubber([secret.encode()]).clean(before + secret + after)
    assert secret not in cleaned.replace(GONE, "")


@pytest.mark.parametrize(
    "line",
    [
        'secret = "swordfish-1"', "password: swordfish-1", '{"one_time_secret": "swordfish-1"}',
        'store = ["redis://node:swordfish-1@192.0.2.9:6379"]', "rediss://:swordfish-1@a.example/0",
        "socks_secret='swordfish-1'", "PSK=swordfish-1",
        "redis://:p@swordfish@h/0", "valkeys://u:pa/swordfish@h, redis://:swordfish@h",
        "join sojourn1:swordfish-1", "api_token = swordfish-1",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_goes_though_nobody_knows_it(line: str) -> None:
    assert "swordfish" not in Scrubber([]).clean(f"# a line\n{line}\n")


def test_a_private_key_goes_as_a_whole_also_when_it_is_cut_off() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\nabc\n-----END PRIVATE KEY-----"
    for text in (pem, pem[:40]):
        cleaned = Scrubber([]).clean(f"a\n{text}")
        assert cleaned == f"a\n{GONE}"


def test_configuration_that_is_no_secret_stays() -> None:
    text = 'one_time_secret = false\norder = ["wifi"]\ndns = "anchor"\n'
    assert Scrubber([]).clean(text) == text


def test_masked_addresses_are_the_same_word_everywhere_and_others_stay() -> None:
    scrubber = Scrubber([], mask=True, names=["anchor.example"])
    text = (
        "45.0.0.1:5061 via 10.0.0.1/24 and 45.0.0.1, [2001:db8::1]:443 fe80::1%eth0 2001:DB8:0::1 52:54:00:ab:cd:ef "
        "anchor.example 127.0.0.1 ::1 0.0.0.0 at 12:34:56.789 version 1.2.3 1.2.3.4.5 ::"
    )
    assert scrubber.clean(text) == (
        "<ipv4-1>:5061 via <ipv4-2>/24 and <ipv4-1>, [<ipv6-1>]:443 <ipv6-2>%eth0 <ipv6-1> <mac-1> "
        "<name-1> 127.0.0.1 ::1 0.0.0.0 at 12:34:56.789 version 1.2.3 1.2.3.4.5 ::"
    )
    assert scrubber.clean("45.0.0.1") == "<ipv4-1>"


def test_without_a_mask_addresses_stay() -> None:
    assert Scrubber([], names=["a.example"]).clean("45.0.0.1 a.example") == "45.0.0.1 a.example"


def test_every_secret_of_a_directory_is_known(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path))
    keys.make(directory, "192.0.2.1")
    directory.write_credentials(Credentials("host-secret", socks_secret="ab" * 32, socks_static="cd" * 32))
    store = SqliteStore(str(directory.database))
    ha1 = "0123456789abcdef" * 4
    store.put(
        Subscriber("laptop", "laptop", ha1=f"SHA-256:{ha1}", secrets=(Secret(1, KEY, 4096),), socks_secret=b"s" * 32)
    )
    store.put_meta("nonce", b"n" * 16)
    store.close()
    (tmp_path / "peer.key").write_text("f" * 64)  # whatever comes later, as long as it is private
    (tmp_path / "peer.key").chmod(0o600)
    (tmp_path / "host.toml").write_text('tid = "0123456789abcdef0123"\n')  # anybody may read it
    known = secrets_of(directory)
    pem = directory.anchor_key.read_text().splitlines()[1]
    wanted = {b"host-secret", b"\xab" * 32, b"\xcd" * 32, ha1.encode(), KEY, b"s" * 32, password_of(b"s" * 32).encode(),
              b"n" * 16, b"\xff" * 32, pem.encode(), bytes.fromhex(directory.socks_key.read_text())}  # fmt: skip
    assert wanted <= known
    assert b"0123456789abcdef0123" not in known


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert secrets_of(ConfigDir(str(tmp_path / "none"))) == set()


@given(st.binary(min_size=8, max_size=64))
@example("\u00a1\u00a1\u00a1\u00a1".encode())
def test_all_forms_of_a_secret_are_words_that_can_be_searched_for(value: bytes) -> None:
    assert all(len(form) >= 8 for form in written(value))
