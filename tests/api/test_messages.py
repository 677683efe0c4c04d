"""Lines of the control socket."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.api.messages import Answer, ErrorKind, Failure, Request, decode_answer, decode_request, encode
from sojourn.errors import RemoteProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=10), JSON, max_size=3), st.integers(0, 1 << 31))
def test_a_request_is_one_line_that_reads_back(verb: str, arguments: dict[str, object], number: int) -> None:
    line = encode(Request(verb, arguments, number))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_request(line) == Request(verb, arguments, number)


@given(JSON)
def test_an_answer_reads_back_and_null_is_a_result(result: object) -> None:
    assert decode_answer(encode(Answer(1, result=result))) == Answer(1, result=result)


def test_a_failure_reads_back() -> None:
    answer = Answer(1, error=Failure(ErrorKind.NOT_ASSOCIATED, "no lease", "wait"))
    assert decode_answer(encode(answer)) == answer


NO_REQUESTS = [b"", b"\n", b"[]", b'{"verb": 1}', b'{"verb": "a", "arguments": []}', b"\xff", b"[" * 9999]


@pytest.mark.parametrize("line", NO_REQUESTS)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_request(line)


@given(st.binary(max_size=200))
def test_any_line_is_a_message_or_a_remote_protocol_error(line: bytes) -> None:
    for decode in (decode_request, decode_answer):
        with contextlib.suppress(RemoteProtocolError):
            decode(line)
