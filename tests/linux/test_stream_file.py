"""The memory of a session's copies: the same bytes for whoever has the descriptor."""

import os

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.linux.stream_file import StreamFile, private_session


def test_a_successor_finds_the_bytes_where_they_were() -> None:
    one = StreamFile(131072)
    one.session.out.space()[:5] = b"hello"
    one.session.into.space()[:5] = b"there"
    other = StreamFile(131072, os.dup(one.fd))
    one.close()
    for buffer, text in ((other.session.out, b"hello"), (other.session.into, b"there")):
        buffer.head = 5
        assert bytes(buffer.pending()) == text
    other.close()


def test_private_memory_is_written_and_read_like_any_other() -> None:
    session = private_session(131072)
    session.out.space()[:5] = b"hello"
    session.out.took(5)
    assert bytes(session.out.pending()) == b"hello"
    assert session.into.free == 65536


def test_a_file_of_another_size_is_refused_and_nothing_stays_open() -> None:
    one = StreamFile(131072)
    copy = os.dup(one.fd)
    with pytest.raises(RemoteProtocolError):
        StreamFile(262144, copy)
    with pytest.raises(OSError):
        os.fstat(copy)
    one.close()
