import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.sip.digest import (
    Algorithm,
    AuthenticationInfo,
    Challenge,
    Credentials,
    Qop,
    digest,
    parse_challenge,
    parse_credentials,
    parse_info,
    secret_hash,
)

RFC_7616_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
RFC_7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def mufasa(algorithm: Algorithm, qop: Qop = Qop.AUTH, response: str = "0") -> Credentials:
    """Return the credentials of RFC 7616 §3.9.1."""
    return Credentials(
        "Mufasa", "http-auth@example.org", RFC_7616_NONCE, "/dir/index.html", response, algorithm, qop,
        RFC_7616_CNONCE, 1, "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (Algorithm.SHA256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
    ],
)
def test_rfc_7616_section_3_9_1(algorithm: Algorithm, expected: str) -> None:
    a1 = secret_hash(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    assert digest(a1, "GET", mufasa(algorithm), b"") == expected


def test_auth_int_covers_the_body() -> None:
    sent = mufasa(Algorithm.SHA256, Qop.AUTH_INT)
    assert digest("a1", "MESSAGE", sent, b"one") != digest("a1", "MESSAGE", sent, b"two")
    plain = mufasa(Algorithm.SHA256)
    assert digest("a1", "MESSAGE", plain, b"one") == digest("a1", "MESSAGE", plain, b"two")


@pytest.mark.parametrize(
    "challenge",
    [
        Challenge("sojourn", "abc"),
        Challenge('a realm, with a comma and a "quote"', "abc", Algorithm.MD5, (Qop.AUTH,), stale=True, opaque="o"),
    ],
)
def test_a_challenge_is_read_as_it_was_written(challenge: Challenge) -> None:
    assert parse_challenge(str(challenge)) == challenge


def test_credentials_are_read_as_they_were_written() -> None:
    sent = mufasa(Algorithm.SHA256, Qop.AUTH_INT, "00ff")
    assert parse_credentials(str(sent)) == sent
    assert "qop=auth-int" in str(sent)
    assert "nc=00000001" in str(sent)


def test_authentication_info_is_read_as_it_was_written() -> None:
    info = AuthenticationInfo("00ff", Qop.AUTH_INT, "c", 3, "next")
    assert parse_info(str(info)) == info


def test_a_challenge_without_algorithm_means_md5() -> None:
    read = parse_challenge('Digest realm="r", nonce="n", qop="auth,auth-int"')
    assert read == Challenge("r", "n", Algorithm.MD5)


@pytest.mark.parametrize(
    "text",
    [
        'Basic realm="r"',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"',
        'Digest realm="r", nonce="n"',
    ],
)
def test_a_challenge_that_we_cannot_answer_is_ignored(text: str) -> None:
    assert parse_challenge(text) is None


@pytest.mark.parametrize(
    "change",
    [("nc=00000001", "nc=1"), ('response="00ff"', 'response="zz"'), ("qop=auth", "qop=none"), ("cnonce", "dnonce")],
)
def test_damaged_credentials_are_refused(change: tuple[str, str]) -> None:
    text = str(mufasa(Algorithm.SHA256, response="00ff"))
    assert change[0] in text
    with pytest.raises(RemoteProtocolError):
        parse_credentials(text.replace(*change))


@given(st.text(max_size=200) | st.text(max_size=150).map("Digest ".__add__))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_challenge, parse_credentials, parse_info):
        with contextlib.suppress(RemoteProtocolError):
            read(text)


@given(st.data())
def test_damaged_text_is_read_or_refused(data: st.DataObject) -> None:
    good = [
        str(mufasa(Algorithm.SHA256, response="00ff")),
        str(Challenge("r", "n")),
        'rspauth="0", qop=auth, cnonce="c", nc=00000001',
    ]
    text = data.draw(st.sampled_from(good))
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    for read in (parse_challenge, parse_credentials, parse_info):
        with contextlib.suppress(RemoteProtocolError):
            read(text)
