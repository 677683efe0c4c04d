"""What the kernel answers to one question, and how it refuses."""

import errno
import socket
import struct

from sojourn.linux.rtnetlink import ATTRIBUTE, ERROR, ask, attribute

RTM_NEWLINK, RTM_GETLINK = 16, 18
LINK = struct.Struct("=BxHiII")


def test_an_attribute_ends_where_the_next_one_may_begin() -> None:
    for size in range(9):
        made = attribute(7, bytes(size))
        assert len(made) % 4 == 0
        assert ATTRIBUTE.unpack_from(made) == (ATTRIBUTE.size + size, 7)
        assert len(made) - (ATTRIBUTE.size + size) in range(4)


def test_a_question_is_answered_and_one_that_makes_no_sense_refused_with_the_reason() -> None:
    index = socket.if_nametoindex("lo")
    said, answer = ask(RTM_GETLINK, 0, LINK.pack(0, 0, index, 0, 0), patience=5.0)
    assert said == RTM_NEWLINK
    assert LINK.unpack_from(answer)[2] == index
    said, answer = ask(RTM_GETLINK, 0, LINK.pack(0, 0, 0x7FFFFFF0, 0, 0), patience=5.0)
    assert (said, struct.unpack_from("=i", answer)) == (ERROR, (-errno.ENODEV,))
