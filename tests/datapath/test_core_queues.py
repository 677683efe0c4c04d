import os
from collections.abc import Iterator

import pytest

from sojourn.datapath._core import Core
from sojourn.datapath.core_queues import Queues
from sojourn.datapath.features import Features
from sojourn.linux import device
from sojourn.linux.descriptors import Descriptors
from sojourn.linux.threads import VARIABLE
from sojourn.linux.tun import Tun, has_reader
from tests.linux.fresh import sh
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TUN devices and network namespaces")

NAMES = {"tun/q0/1", "tun/q0/2"}


@pytest.fixture
def core() -> Iterator[Core]:
    core = Core(3)
    yield core
    core.stop()


def test_every_thread_has_a_queue_and_a_successor_reads_all_of_them(core: Core) -> None:
    def work() -> None:
        ip("tuntap add q0 mode tun multi_queue vnet_hdr")
        first = Tun.open("q0")
        held = Descriptors()
        queues = Queues(core, held, Features(), 3)
        queues.add(first)
        assert queues.open.keys() == held.held.keys() == NAMES
        given = Descriptors({name: os.dup(fd) for name, fd in held.held.items()})
        queues.drop()
        assert not queues.open
        assert not held.held
        successor = Queues(core, given, Features(), 1)
        successor.add(first)
        assert successor.open.keys() == given.held.keys() == NAMES
        successor.close()
        first.close()

    in_new_namespace(work)


def test_a_device_of_one_queue_is_left_with_it_and_a_dead_descriptor_is_closed(core: Core) -> None:
    def work() -> None:
        ip("tuntap add q0 mode tun vnet_hdr")
        first = Tun.open("q0")
        dead = os.open("/dev/null", os.O_RDWR)
        held = Descriptors({"tun/q0/1": dead})
        queues = Queues(core, held, Features(), 3)
        queues.add(first)
        assert not queues.open
        assert not held.held
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(dead)
        first.close()

    in_new_namespace(work)


def test_a_device_for_many_is_not_shared_with_a_stranger_and_needs_no_discipline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "2")

    def work() -> str:
        import asyncio

        asyncio.run(device.create_tun("q0", ["10.9.0.1/32"], 1400))
        assert not has_reader("q0")
        first = Tun.open("q0")
        assert first.multi_queue
        with pytest.raises(OSError, match="another process reads device q0"):
            Tun.open("q0")
        more = Tun.open("q0", more=True)
        first.close()
        assert has_reader("q0")
        more.close()
        assert not has_reader("q0")
        return sh("tc qdisc show dev q0")

    assert in_new_namespace(work).startswith("qdisc noqueue")
