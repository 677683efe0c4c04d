"""Where the programs are attached, and that nothing stays behind."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from sojourn.datapath import kernel_links, kernel_objects
from sojourn.datapath.kernel_links import Links
from sojourn.linux.bpf import close_all
from sojourn.linux.descriptors import Descriptors
from sojourn.upmt.commands import Role
from tests.harness.tcx import needs_tcx
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")


@pytest.fixture
def fds() -> Iterator[dict[str, int]]:
    loaded = kernel_objects.load(Role.HOST)
    yield {name.rpartition("/")[2]: fd for name, fd in loaded.items()}
    close_all(loaded.values())


def filters() -> int:
    """Return how many filters of ours there are."""
    said = ""
    for name, direction in (("t0", "egress"), *((end, way) for end in ("v0", "v1") for way in ("ingress", "egress"))):
        words = ("tc", "filter", "show", "dev", name, direction)
        said += subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return said.count(" sojourn ")


def on_two_interfaces(work: Callable[[int, int, int], None]) -> None:
    def run() -> None:
        ip("link add v0 type veth peer name v1")
        ip("tuntap add dev t0 mode tun")
        work(*(socket.if_nametoindex(name) for name in ("t0", "v0", "v1")))

    in_new_namespace(run)


@needs_tcx
def test_links_are_held_by_name_and_a_successor_takes_them_over(fds: dict[str, int]) -> None:
    def work(device: int, one: int, other: int) -> None:
        told: list[str] = []
        held: dict[str, int] = {}

        def hold(name: str, fd: int) -> None:
            held[name] = os.dup(fd)

        links = Links(fds, Descriptors(on_hold=hold, on_release=told.append), "kernel/x")
        links.leave(device)
        for interface in (one, one, other):
            links.arrive(interface)
        ways = [f"kernel/x/{way}/{{}}" for way in ("ingress", "egress")]
        names = {ways[1].format(device), *(way.format(interface) for interface in (one, other) for way in ways)}
        assert links.tcx
        assert held.keys() == names
        links.keep({one})
        assert told == [way.format(other) for way in ways]
        for name in told:
            os.close(held.pop(name))

        given = Descriptors(held, on_hold=hold)
        successor = Links(fds, given, "kernel/x")
        successor.leave(device)
        successor.arrive(one)
        assert not given.given
        assert given.held.keys() == names - set(told)
        successor.close()
        assert not given.held
        links.close()

    on_two_interfaces(work)


@pytest.mark.parametrize("wanted", [False, True], ids=["unwanted", "unknown to the kernel"])
def test_without_tcx_filters_do_the_same_and_are_removed(
    fds: dict[str, int], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_program: int, _interface: int, *, egress: bool) -> int:
        raise OSError(errno.EINVAL, f"tcx, egress {egress}: as Linux before 6.6 has it")

    monkeypatch.setattr(kernel_links, "attach_tcx", refuse)

    def work(device: int, one: int, other: int) -> None:
        links = Links(fds, Descriptors(), "kernel/x", tcx=wanted)
        links.leave(device)
        assert not links.tcx
        links.arrive(one)
        links.arrive(other)
        assert filters() == 5
        links.keep({other})
        assert filters() == 3
        ip("link del v0")  # and v1 with it
        links.close()
        ip("link add v0 type veth peer name v1")
        assert filters() == 0

    on_two_interfaces(work)


def test_an_interface_that_is_not_there_is_an_error(fds: dict[str, int]) -> None:
    with pytest.raises(OSError, match="No such device"):
        Links(fds, Descriptors(), "kernel/x").arrive(999999)
