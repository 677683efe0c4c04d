"""Which ports control opens for the data path, and that they are usable there."""

import os
import socket

import pytest

from sojourn.datapath.low_ports import open_low_ports
from sojourn.linux.descriptors import listen_name
from sojourn.model import Endpoint
from sojourn.upmt.commands import Role, Setup

LOW, HIGH = Endpoint("127.0.0.1", 443), Endpoint("127.0.0.1", 1800)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: low ports")


def setup(*listen: Endpoint) -> Setup:
    return Setup(Role.ANCHOR, "sojourn0", 1400, listen=listen)


@needs_root
def test_a_low_port_is_opened_and_no_other() -> None:
    opened = open_low_ports(setup(LOW, HIGH, Endpoint("127.0.0.1", 0)), {})
    assert list(opened) == [listen_name(LOW)]
    with socket.socket(fileno=opened[listen_name(LOW)]) as sock:
        assert sock.getsockname() == ("127.0.0.1", 443)


@needs_root
def test_one_that_is_there_or_taken_by_another_program_is_left_alone() -> None:
    assert open_low_ports(setup(LOW), {listen_name(LOW)}) == {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((LOW.address, LOW.port))
        assert open_low_ports(setup(LOW), {}) == {}
