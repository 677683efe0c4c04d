import contextlib
import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.lab.web import chunks, content, digest_of


@given(st.integers(0, 300_000), st.integers(900, 100_000))
def test_the_content_does_not_depend_on_the_pieces(size: int, piece: int) -> None:
    whole = b"".join(content(size, piece))
    assert len(whole) == size
    assert hashlib.sha256(whole).hexdigest() == digest_of(size)


@given(st.lists(st.binary(min_size=1, max_size=9000), max_size=5))
def test_a_chunked_body_is_put_together_again(parts: list[bytes]) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert b"".join(chunks(io.BytesIO(body))) == b"".join(parts)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_a_protocol_error(body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        list(chunks(io.BytesIO(body)))


@pytest.mark.parametrize("body", [b"", b"-1\r\nx\r\n", b"zz\r\n", b"5\r\nabc"])
def test_a_broken_body_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(chunks(io.BytesIO(body)))
