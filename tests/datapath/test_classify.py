"""What the data path learns of a new flow: from the programs' maps, else from the kernel's socket table."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sojourn.datapath.classify import Classifier, needs_look
from sojourn.linux import cgroups
from sojourn.linux.owner_programs import OwnerPrograms
from sojourn.model import TCP, UDP, Endpoint, Flow, Origin
from sojourn.packet import vnet
from sojourn.packet.ip import flow_of, key_of, udp_packet
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import AddAssociation, Placed, SetRules
from tests.datapath.engine_pair import ME, TUNNEL, ready_pair
from tests.harness.watched import LOCAL, LOCAL6, REMOTE, REMOTE6, Watched, watched
from tests.linux.fresh import fresh_namespace

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
needs_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
)


class Loop:
    """Lends itself as the data path's loop does."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[int], None]] = {}
        self.said: list[str] = []

    def say(self, _level: str, text: str) -> None:
        self.said.append(text)

    def unwatch(self, fd: int) -> None:
        del self.watched[fd]

    def classifier(self) -> Classifier:
        return Classifier(self.say, self.watched.__setitem__, self.unwatch)


@pytest.fixture
def ground() -> Iterator[Watched]:
    with watched() as place:
        yield place


@pytest.fixture
def loop() -> Loop:
    return Loop()


def offer_all(classifier: Classifier, ground: Watched, digest: str | None = None) -> list[str]:
    replaced: list[str] = []
    for name, fd in ground.programs.descriptors.items():
        named = name if digest is None else name.replace(ground.programs.digest, digest)
        taken = classifier.offer(named, os.dup(fd))
        assert taken is not None
        replaced += taken
    return replaced


@needs_root
@needs_btf
def test_a_flow_is_known_by_the_maps_that_control_has_sent(ground: Watched, loop: Loop) -> None:
    classifier = loop.classifier()
    assert offer_all(classifier, ground) == []
    ground.run("bash", "-c", f"echo > /dev/udp/{REMOTE6}/6001")
    ground.origin_to(6001)
    flow = next(flow for flow in ground.seen if flow.remote.port == 6001)
    origin = classifier.classify(key_of(flow))
    assert origin is not None
    assert (Path(origin.executable).name, origin.command, origin.uid, origin.exact) == ("bash", "bash", 0, True)
    assert classifier.classify(key_of(flow)) is origin
    classifier.close()
    assert loop.watched == {}


@needs_root
@needs_btf
def test_another_version_of_the_programs_replaces_the_one_before(ground: Watched, loop: Loop) -> None:
    classifier = loop.classifier()
    offer_all(classifier, ground)
    first = classifier.digest
    replaced = offer_all(classifier, ground, "0123456789ab")
    assert classifier.digest == "0123456789ab"
    assert set(replaced) == set(ground.programs.descriptors)
    assert all(name.startswith(f"bpf/{first}/") for name in replaced)
    assert len(loop.watched) == 1
    classifier.close()


def test_what_is_not_ours_is_left_to_others(loop: Loop) -> None:
    assert loop.classifier().offer("tun/sojourn0", 99) is None


@needs_root
@needs_btf
@pytest.mark.parametrize(("local", "remote"), [(LOCAL, REMOTE), (LOCAL6, REMOTE6)])
def test_a_socket_that_is_passed_on_is_told_at_once(ground: Watched, loop: Loop, local: str, remote: str) -> None:
    """The first datagram is one program's, the next one another's: the flow changes hands."""
    classifier = loop.classifier()
    offer_all(classifier, ground)
    passed: list[Flow] = []
    classifier.on_passed = lambda key: passed.append(flow_of(key))
    kind = socket.AF_INET if local == LOCAL else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as here:
        here.connect((remote, 6002))
        here.send(b"mine")
        assert os.getpid() == getattr(ground.origin_to(6002), "pid", 0)
        os.set_inheritable(here.fileno(), True)
        child = os.posix_spawn("/bin/bash", ["bash", "-c", f"echo yours >&{here.fileno()}"], dict(os.environ))
        os.waitpid(child, 0)
        flow = Flow(UDP, Endpoint(local, here.getsockname()[1]), Endpoint(remote, 6002))
    (ring,) = loop.watched.items()
    ring[1](ring[0])
    assert passed == [flow]
    origin = classifier.classify(key_of(flow))
    assert origin is not None
    assert (origin.pid, origin.command) == (child, "bash")
    classifier.close()


def test_without_programs_the_sockets_user_is_known_and_that_it_is_not_exact(loop: Loop) -> None:
    classifier = loop.classifier()
    with socket.socket() as there, socket.socket() as here:
        there.bind(("127.0.0.1", 0))
        there.listen()
        here.connect(there.getsockname())
        flow = Flow(TCP, Endpoint(*here.getsockname()), Endpoint(*there.getsockname()))
        origin = classifier.classify(key_of(flow))
        assert origin == Origin(-os.fstat(here.fileno()).st_ino, uid=os.getuid(), exact=False)
    assert classifier.classify(key_of(Flow(UDP, Endpoint("127.0.0.1", 1), Endpoint("192.0.2.1", 2)))) is None
    classifier.close()


@needs_root
@needs_btf
def test_a_socket_older_than_the_programs_is_found_but_not_exact(loop: Loop) -> None:
    with fresh_namespace(), socket.socket() as there, socket.socket() as here:
        there.bind(("127.0.0.1", 0))
        there.listen()
        here.connect(there.getsockname())
        root = cgroups.open_root()
        programs = OwnerPrograms.load(root)
        os.close(root)
        classifier = loop.classifier()
        for name, fd in programs.descriptors.items():
            classifier.offer(name, os.dup(fd))
        flow = Flow(TCP, Endpoint(*here.getsockname()), Endpoint(*there.getsockname()))
        origin = classifier.classify(key_of(flow))
        assert origin is not None
        assert (origin.exact, origin.executable) == (False, "")
        classifier.close()
        programs.close()


@pytest.mark.parametrize(
    ("cgroup", "name", "wanted"),
    [
        ("/user.slice/user-1000.slice/session-2.scope", "", True),
        ("/user.slice/user-1000.slice/session-2.scope", "call", False),
        ("/user.slice/user@1000.service/app.slice/app-flatpak-org.mozilla.firefox-42.scope", "", False),
        ("/user.slice/user@1000.service/app.slice/snap.firefox.firefox-0c1c.scope", "", False),
        (f"/system.slice/docker-{'0' * 64}.scope", "", False),
        ("/system.slice/systemd-timesyncd.service", "", False),
    ],
)
def test_control_looks_only_where_the_cgroup_does_not_tell(cgroup: str, name: str, wanted: bool) -> None:
    assert needs_look(Origin(1, "/app/bin/x", cgroup=cgroup, name=name)) is wanted


@needs_root
@needs_btf
def test_the_question_costs_little(ground: Watched, loop: Loop) -> None:
    """Not a benchmark (bench/classify.py is): a bound that a mistake in the maps would break by far."""
    classifier = loop.classifier()
    offer_all(classifier, ground)
    ground.run("bash", "-c", f"echo > /dev/udp/{REMOTE}/6003")
    ground.origin_to(6003)
    key = key_of(next(flow for flow in ground.seen if flow.remote.port == 6003))
    began = time.perf_counter()
    for _ in range(1000):
        classifier.classify(key)
    assert time.perf_counter() - began < 0.5
    classifier.close()


@needs_root
@needs_btf
def test_the_core_asks_the_same_map_and_begins_a_programs_flows_once_its_rules_are_known(
    ground: Watched, loop: Loop
) -> None:
    pytest.importorskip("sojourn.datapath._core", reason="needs the C core, built")
    from tests.harness.core_ends import CoreSender

    pair, classifier = ready_pair(), loop.classifier()
    forwarder = pair.host.forwarder
    sender = CoreSender(forwarder, lambda *_: None, inbound=False)
    births, told = sender.births, list[int]()
    births.owners, forwarder.classify = classifier, classifier.classify

    def on_maps(fd: int) -> None:
        told.append(fd)
        sender.core.set_owners(fd)

    classifier.on_maps = on_maps
    offer_all(classifier, ground)
    rules = SetRules(ME, (Placed(Rule("shell", Subject(commands=("bash",))), TUNNEL),))
    for order in (AddAssociation(ME, LOCAL, None, (TUNNEL,)), rules):
        forwarder.handle(order, pair.now)
        births.tell_core(order)
    ground.run("bash", "-c", f"for port in 6011 6012 6013; do echo > /dev/udp/{REMOTE}/$port; done")
    ground.origin_to(6013)
    flows = [flow for flow in ground.seen if flow.remote.port in (6011, 6012, 6013)]
    assert len(flows) == 3
    for flow in flows:
        whole = bytes(vnet.HEADER_BYTES) + udp_packet(flow.local, flow.remote, b"first")
        sender.buffers[0][: len(whole)] = whole
        sender.take(len(whole), pair.now)
    sender.flush(pair.now)
    assert forwarder.totals["core_flows_begun"] == 2, "the first one is asked about"
    assert not births.take_births(pair.now)
    rows = [forwarder.paft.rows[key_of(flow)] for flow in flows]
    assert [(row.label, row.tunnel, row.packets_out) for row in rows] == [("shell", TUNNEL, 1)] * 3
    assert rows[0].origin is rows[1].origin is rows[2].origin
    assert rows[0].origin is not None
    assert rows[0].origin.command == "bash"
    assert classifier.record is not None
    assert classifier.origin_of(classifier.record) == rows[0].origin
    classifier.close()
    assert (len(told), told[-1]) == (2, -1)
    assert classifier.origin_of(classifier.record) is None
