"""The join token: one line that survives terminals and mails, and is refused when it did not."""

import base64
import contextlib
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.token import MAX_TOKEN_CHARACTERS, JoinToken, parse
from sojourn.errors import RemoteProtocolError

TOKEN = JoinToken("anchor.example.org", 5061, bytes(range(32)), "laptop", b"s" * 16, b"k" * 32)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
TOKENS = st.builds(
    JoinToken,
    st.from_regex(r"[A-Za-z0-9.:_-]{1,253}", fullmatch=True),
    st.integers(1, 65535),
    st.binary(min_size=32, max_size=32),
    NAMES,
    st.binary(min_size=16, max_size=16),
    st.binary(max_size=32),
)


def wrap(body: bytes) -> str:
    return "sojourn1:" + base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:4] + body).decode().rstrip("=")


@given(TOKENS)
def test_a_token_reads_back_as_it_was(token: JoinToken) -> None:
    assert parse(str(token)) == token
    assert len(str(token)) <= MAX_TOKEN_CHARACTERS


def test_a_token_is_one_word_of_known_form() -> None:
    assert str(TOKEN).startswith("sojourn1:")
    body = ["anchor.example.org", 5061, bytes(range(32)), "laptop", b"s" * 16, b"k" * 32]
    assert str(TOKEN) == wrap(msgspec.msgpack.encode(body))


def test_white_space_that_a_terminal_or_a_mail_put_in_does_no_harm() -> None:
    text = str(TOKEN)
    assert parse(f"  {text[:40]}\r\n{text[40:80]} \n\t{text[80:]}\n") == TOKEN


def test_a_token_does_not_print_its_secret() -> None:
    assert TOKEN.password not in repr(TOKEN)
    assert "s" * 16 not in repr(TOKEN)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not start"),
        ("sojourn2:AAAA", "does not start"),
        (str(TOKEN)[:-1], "checksum"),
        (str(TOKEN)[:-4], "checksum"),
        (str(TOKEN) + "AAAA", "checksum"),
        ("sojourn1:", "checksum"),
        ("sojourn1:***", "characters"),
        ("sojourn1:" + "A" * MAX_TOKEN_CHARACTERS, "too long"),
        (wrap(b""), "does not know"),
        (wrap(msgspec.msgpack.encode(["a", 0, bytes(32), "u", bytes(16), b""])), "does not know"),
        (wrap(msgspec.msgpack.encode(["a", 1, bytes(31), "u", bytes(16), b""])), "does not know"),
        (wrap(msgspec.msgpack.encode(["a b", 1, bytes(32), "u", bytes(16), b""])), "does not know"),
        (wrap(msgspec.msgpack.encode(["a", 1, bytes(32), 'u"\r\n', bytes(16), b""])), "does not know"),
    ],
)
def test_a_garbled_token_is_refused_in_words_that_say_how(text: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        parse(text)


@given(st.text())
def test_any_text_is_a_token_or_a_remote_protocol_error(text: str) -> None:
    for word in (text, "sojourn1:" + text):
        with pytest.raises(RemoteProtocolError):
            parse(word)


@given(st.binary(max_size=200))
def test_any_bytes_under_a_right_checksum_are_a_token_or_a_remote_protocol_error(body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse(wrap(body))


@given(st.integers(9, len(str(TOKEN)) - 1), st.sampled_from("ABCabc012_-"))
def test_one_changed_character_is_always_noticed(place: int, character: str) -> None:
    text = str(TOKEN)
    changed = text[:place] + character + text[place + 1 :]
    try:
        assert parse(changed) == TOKEN  # the same character, or bits that base64 ignores in the last one
    except RemoteProtocolError:
        assert changed != text
