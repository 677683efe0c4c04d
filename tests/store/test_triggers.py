"""What stands in a store: the book in memory, and the same orders given to real servers, which must say the same."""

import asyncio
import datetime
import ipaddress
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.i3.identifier import Identifier
from sojourn.i3.orders import PutTrigger, Record, TakeTrigger
from sojourn.i3.packet import Status
from sojourn.i3.table import MAX_ADDRESSES, MAX_STACKS, TRIGGER_LIFE, Target
from sojourn.model import Endpoint
from sojourn.store import trigger_scripts as scripts
from sojourn.store import valkey_link
from sojourn.store.triggers import MOST_ADDRESSES, Kept, MemoryTriggers, StoreUnavailable, TriggerBook
from sojourn.store.valkey_link import PATIENCE, options_of
from sojourn.store.valkey_triggers import ValkeyTriggers
from tests.harness.redis_cluster import RedisCluster, free_ports
from tests.harness.standstill import Standstill

NODE = (Endpoint("203.0.113.1", 1801), Endpoint("2001:db8::1", 1801))
BOB, CAROL = ("192.0.2.1", 4000), ("2001:db8::7", 4000)


def identifier(place: int, suffix: int) -> Identifier:
    return Identifier(place.to_bytes(16) + suffix.to_bytes(16))


def record(of: Identifier, target: Target, owner: tuple[str, int] = BOB, number: int = 1) -> Record:
    return Record(of, target, owner, number, TRIGGER_LIFE, NODE)


def put(of: Record, most: int = MAX_ADDRESSES, whose: str = "192.0.2.1", room: int = 100) -> PutTrigger:
    return PutTrigger(0, of, most, whose, room)


def test_a_trigger_ends_after_its_life_and_a_change_is_told_once() -> None:
    book, x, told = TriggerBook(), identifier(1, 1), list[bytes]()
    assert book.look_up(x[:16], 0.0, told.append) == ()
    assert book.put(put(record(x, BOB)), 0.0).status is Status.INSERTED
    assert told == [x[:16]]
    assert book.put(put(record(x, BOB, number=2)), 5.0).records[0].life == TRIGGER_LIFE
    assert told == [x[:16]]
    assert book.look_up(x[:16], 5.0 + TRIGGER_LIFE) == ()


def test_a_place_has_only_so_much_and_a_neighbourhood_too() -> None:
    book = TriggerBook()
    for number in range(MOST_ADDRESSES):
        of = record(identifier(1, number), ("192.0.2.1", number))
        assert book.put(put(of, room=1000), 0.0).status is Status.INSERTED
    assert book.put(put(record(identifier(1, 999), BOB), room=1000), 0.0).status is Status.QUOTA
    assert book.put(put(record(identifier(2, 1), BOB), whose="carol", room=1), 0.0).status is Status.INSERTED
    assert book.put(put(record(identifier(3, 1), BOB), whose="carol", room=1), 0.0).status is Status.QUOTA
    assert book.put(put(record(identifier(2, 1), BOB, number=2), whose="carol", room=0), 0.0).status is Status.INSERTED


def test_the_store_in_memory_is_the_book_under_a_clock() -> None:
    async def use() -> None:
        store = MemoryTriggers(lambda: 7.0, lambda place: None)
        of = record(identifier(1, 1), BOB)
        kept = await store.put(put(of))
        assert kept == Kept(Status.INSERTED, await store.look_up(of.identifier[:16]))
        assert (await store.facts()).triggers == 1
        taken = await store.take(TakeTrigger(0, of.identifier, BOB, BOB, 2))
        assert taken == Kept(Status.REMOVED, ())
        await store.close()

    asyncio.run(use())


@given(st.binary(max_size=120), st.binary(max_size=120), st.integers(0, 10**6))
def test_what_somebody_else_has_written_is_no_trigger(field: bytes, value: bytes, left: int) -> None:
    for kind in (b"A", b"S", b"R", b""):
        try:
            read = scripts.record_of(kind + field, value, left)
        except RemoteProtocolError:
            continue
        assert scripts.field_of(read.identifier, read.target) == kind + field


@pytest.mark.parametrize("target", [BOB, CAROL, (identifier(5, 5),), (identifier(5, 5), identifier(6, 6))])
def test_a_trigger_is_read_as_it_was_written(target: Target) -> None:
    of = record(identifier(1, 2), target, CAROL, 2**64 - 1)
    value = b"%015d" % 12345 + scripts.number_of(of.number) + scripts.tail_of(of)
    assert scripts.record_of(scripts.field_of(of.identifier, target), value, 30000) == of


@pytest.mark.parametrize("url", ["", "here", "http://127.0.0.1", "redis://h:port"])
def test_what_is_no_address_of_a_store_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options_of(url)
    assert caught.value.fix


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster(tmp_path_factory.mktemp("redis"), free_ports(3))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a server than a machine stands still from which others take processors."""
    monkeypatch.setattr(valkey_link, "PATIENCE", 30.0)
    monkeypatch.setattr(valkey_link, "CONNECT_PATIENCE", 30.0)


Told = list[tuple[str, str | None]]


async def opened(urls: list[str], changed: list[bytes | None], told: Told, prefix: str = "t") -> ValkeyTriggers:
    store = ValkeyTriggers(
        urls, changed.append, lambda server, why: told.append((server, why)), ["203.0.113.1"], prefix
    )
    await store.start()
    return store


TARGETS: st.SearchStrategy[Target] = st.sampled_from([BOB, CAROL, (identifier(8, 8),), (identifier(8, 9),)])
STEPS = st.tuples(
    st.booleans(), st.integers(1, 2), st.integers(1, 2), TARGETS, st.sampled_from([BOB, CAROL]),
    st.integers(0, 5), st.integers(0, 2), st.sampled_from(["b", "c"]), st.integers(0, 5),
)  # fmt: skip


@pytest.mark.usefixtures("_patient")
def test_real_servers_do_what_the_book_does(cluster: RedisCluster) -> None:
    async def compare(steps: list[tuple[bool, int, int, Target, tuple[str, int], int, int, str, int]]) -> None:
        store, book = await opened(cluster.urls[:1], [], [], f"run{time.monotonic_ns()}"), TriggerBook()
        for puts, place, suffix, target, owner, number, most, whose, room in steps:
            of, by = identifier(place, suffix), target if len(target) == 2 and isinstance(target[1], int) else owner
            assert isinstance(by[1], int)
            who = (str(by[0]), by[1])
            if puts:
                order = put(record(of, target, who, number), most, whose, room)
                said, expected = await store.put(order), book.put(order, 0.0)
            else:
                taken = TakeTrigger(0, of, target, who, number)
                said, expected = await store.take(taken), book.take(taken, 0.0)
            assert said.status is expected.status
            assert plain(said.records) == plain(expected.records)
            assert plain(await store.look_up(of[:16])) == plain(expected.records)
        await store.close()

    @settings(deadline=None, max_examples=40)
    @given(st.lists(STEPS, max_size=12))
    def run(steps: list[tuple[bool, int, int, Target, tuple[str, int], int, int, str, int]]) -> None:
        asyncio.run(compare(steps))

    run()


def plain(records: tuple[Record, ...]) -> set[tuple[object, ...]]:
    """Return records without what time does to them."""
    return {(one.identifier, one.target, one.owner, one.number, one.via) for one in records}


@pytest.mark.usefixtures("_patient")
def test_stacks_of_one_identifier_are_bounded_in_real_servers_too(cluster: RedisCluster) -> None:
    async def use() -> None:
        store = await opened(cluster.urls, [], [], "stacks")
        statuses = [
            (await store.put(put(record(identifier(1, 1), (identifier(9, number),)), MAX_STACKS))).status
            for number in range(MAX_STACKS + 2)
        ]
        assert statuses == [Status.INSERTED] * MAX_STACKS + [Status.QUOTA] * 2
        for number in range(100):
            await store.take(TakeTrigger(0, identifier(2, number), BOB, BOB, 1))
        [size] = {await store._run(COUNT, store._place_key(identifier(2, 0)[:16]))}
        assert size == 32, "removals are remembered, but not without bound"
        await store.close()

    asyncio.run(use())


COUNT = "return redis.call('HLEN', KEYS[1])"


@pytest.mark.usefixtures("_patient")
def test_a_change_by_one_node_is_told_to_the_others_that_have_looked_and_not_to_itself(cluster: RedisCluster) -> None:
    async def use() -> None:
        mine, theirs = list[bytes | None](), list[bytes | None]()
        one, other = await opened(cluster.urls[:1], mine, []), await opened(cluster.urls[1:2], theirs, [])
        for number in range(1, 20):  # of all servers
            of = record(identifier(number * 7919, 1), BOB)
            assert await other.look_up(of.identifier[:16]) == ()
            await one.put(put(of))
            await until(lambda of=of: theirs[-1:] == [of.identifier[:16]])
            assert len(await other.look_up(of.identifier[:16])) == 1
        assert mine == []
        facts = [await one.facts(), await other.facts()]
        assert facts[0].secret == facts[1].secret
        assert facts[0].nodes == ("203.0.113.1",)
        await one.close()
        await other.close()

    asyncio.run(use())


def test_a_server_that_hangs_or_dies_fails_its_part_at_once_and_is_found_again(cluster: RedisCluster) -> None:
    async def use() -> None:
        changed, told = list[bytes | None](), Told()
        store = await opened(cluster.urls, changed, told)
        port = cluster.ports[0]
        name = f"127.0.0.1:{port}"
        place = next(p for p in (n.to_bytes(16) for n in range(10**6)) if served(store, p) == name)
        elsewhere = next(p for p in (n.to_bytes(16) for n in range(10**6)) if served(store, p) != name)
        cluster.freeze(port, True)
        with Standstill() as stood:
            begin = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.look_up(place)
            assert stood.without(begin, time.monotonic()) < PATIENCE + 1.0
            begin = time.monotonic()
            with pytest.raises(StoreUnavailable, match=name):
                await store.look_up(place)
            assert stood.without(begin, time.monotonic()) < 0.2, "nobody waits for one that is known to hang"
        assert await store.look_up(elsewhere) == ()
        await until(lambda: changed == [None])
        assert store.servers[name] is not None
        cluster.freeze(port, False)
        await until(lambda: store.servers[name] is None)
        assert await store.look_up(place) == ()
        cluster.kill(port)
        await until(lambda: store.servers[name] is not None)
        with pytest.raises(StoreUnavailable):
            await store.look_up(place)
        cluster.start_one(port)
        await until(lambda: store.servers[name] is None)
        assert (await store.put(put(Record(Identifier(place + bytes(16)), BOB, BOB, 1, 30.0, NODE)))).status.value == 0
        await store.close()

    asyncio.run(use())


def served(store: ValkeyTriggers, place: bytes) -> str:
    link = store._link_for(store._place_key(place))
    return next(name for name, server in store._servers.items() if server.link is link)


async def until(true: object, seconds: float = 20.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_a_server_that_talks_nonsense_is_given_up_and_tried_again() -> None:
    """What no server of this kind says (":abc" where a number belongs, a page of a web server) ends one connection."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        writer.write(b":abc\r\n" if len(seen) % 2 else b"+OK\r\n" * 3 + b":abc\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = ValkeyTriggers([f"redis://127.0.0.1:{port}"], lambda _place: None, lambda *_: None)
        await store.start()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if len(seen) >= 3:
                break
        with pytest.raises(StoreUnavailable):
            await store.facts()
        await store.close()
        server.close()

    seen: list[bytes] = []
    asyncio.run(run())
    assert len(seen) >= 3


@pytest.mark.usefixtures("_patient")
def test_what_a_servers_user_may_not_do_is_a_store_that_is_not_available(cluster: RedisCluster) -> None:
    async def run() -> None:
        for port in cluster.ports:
            assert cluster.cli(port, "acl", "setuser", "few", "on", ">word", "~*", "&*", "+@all", "-dbsize") == "OK"
        store = await opened([f"redis://few:word@{cluster.host}:{cluster.ports[0]}"], [], [], "few")
        with pytest.raises(StoreUnavailable, match="dbsize"):
            await store.facts()
        await store.close()

    asyncio.run(run())


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key and a certificate for 127.0.0.1 that it signs itself; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a store")])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "store.key", folder / "store.crt"
    paths[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(made.public_bytes(Encoding.PEM))
    return paths


def test_a_store_over_tls_is_used_and_one_that_nobody_vouches_for_is_not(tmp_path: Path) -> None:
    key, trusted = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, stranger = certificate(tmp_path / "other")
    (port,) = free_ports(1)
    words = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(trusted), "--tls-key-file", str(key),
             "--tls-auth-clients", "no", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]  # fmt: skip
    server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)

    async def use() -> None:
        told = Told()
        of = record(identifier(1, 1), BOB)
        store = await opened([f"rediss://127.0.0.1:{port}?ssl_ca_certs={trusted}"], [], told)
        await until(lambda: list(store.servers.values()) == [None])
        assert (await store.put(put(of))).status is Status.INSERTED
        assert len(await store.look_up(of.identifier[:16])) == 1
        await store.close()
        for url in (f"rediss://127.0.0.1:{port}?ssl_ca_certs={stranger}", f"redis://127.0.0.1:{port}"):
            wrong = await opened([url], [], told)
            with pytest.raises(StoreUnavailable):
                await wrong.look_up(of.identifier[:16])
            assert list(wrong.servers.values()) != [None]
            await wrong.close()

    try:
        asyncio.run(use())
    finally:
        server.kill()
        server.wait()


def test_a_replica_takes_over_what_its_dead_master_had(tmp_path: Path) -> None:
    made = RedisCluster(tmp_path, free_ports(4))
    try:
        made.start(masters=3)
        asyncio.run(_outlive_a_master(made))
    finally:
        made.stop()


async def _outlive_a_master(made: RedisCluster) -> None:
    store = await opened(made.urls[:3], [], [])
    master, replica = made.ports[0], made.ports[3]
    name = f"127.0.0.1:{master}"
    places = [p for p in (n.to_bytes(16) for n in range(1000)) if served(store, p) == name][:3]
    for place in places:
        of = Record(Identifier(place + bytes(16)), BOB, BOB, 1, 30.0, NODE)
        assert (await store.put(put(of))).status is Status.INSERTED
    made.wait_for_copies(replica, 3)
    made.kill(master)
    begin = time.monotonic()
    while True:
        try:
            found = [await store.look_up(place) for place in places]
            break
        except StoreUnavailable:
            assert time.monotonic() < begin + 20
            await asyncio.sleep(0.1)
    assert [len(each) for each in found] == [1, 1, 1], "nothing was lost"
    after = Record(Identifier(places[0] + bytes(15) + b"\1"), CAROL, CAROL, 1, 30.0, NODE)
    assert (await store.put(put(after))).status is Status.INSERTED
    await store.close()
