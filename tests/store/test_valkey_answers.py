"""A store that lies: its answers are read or refused by name, and a node goes on with what it knows."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3.identifier import PLACE_BYTES, Identifier, place_of
from sojourn.i3.orders import Record, StoreFacts
from sojourn.i3.packet import Status
from sojourn.i3.shared_table import SharedTable
from sojourn.model import Endpoint
from sojourn.store import trigger_scripts as scripts
from sojourn.store import valkey_answers as answers
from sojourn.store.triggers import MOST_ADDRESSES, MOST_STACKS, StoreUnavailable
from sojourn.store.valkey_triggers import ValkeyTriggers

NODE = Endpoint("203.0.113.1", 1801)
X = Identifier(bytes(range(32)))
PLACE = place_of(X)
OF = Record(X, ("192.0.2.1", 4000), ("192.0.2.1", 4000), 7, 20.0, (NODE,))
FIELD = scripts.field_of(X, OF.target)
VALUE = b"%015d" % 12345 + scripts.number_of(OF.number) + scripts.tail_of(OF)
REASONS = {"store-type", "store-length", "store-value", "store-trigger"}

LEAVES: st.SearchStrategy[object] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=200),
    st.sampled_from([FIELD, VALUE, FIELD[:-1], VALUE + b"\0", X, b"\xff" * 40, ValueError("in an array"), 20000, 0, 1]),
)  # fmt: skip
ANSWERS: st.SearchStrategy[object] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.integers(), inner, max_size=2), max_leaves=20
) | st.lists(st.sampled_from([FIELD, VALUE, 20000]), max_size=9).map(list)
"""What the client library may hand on: also what no version of Redis says."""

READERS: dict[str, Callable[[object], object]] = {
    "records": lambda answer: answers.records(PLACE, answer, lambda _reason: None),
    "kept": lambda answer: answers.kept(PLACE, answer, lambda _reason: None),
    "reserved": answers.reserved,
    "facts": lambda answer: answers.facts(answer, [1]),
    "sizes": lambda answer: answers.facts([bytes(32), 1, []], [answer]),
    "slots": answers.slots,
    "ready": answers.ready,
    "digest": answers.digest,
    "changed": answers.changed,
}


@pytest.mark.parametrize("reader", READERS)
@given(answer=ANSWERS)
def test_no_answer_of_a_store_raises_anything_but_a_named_error(reader: str, answer: object) -> None:
    try:
        READERS[reader](answer)
    except RemoteProtocolError as error:
        assert error.reason in REASONS  # noqa: PT017 - that it may come is no claim


@given(
    st.lists(st.tuples(st.lists(ANSWERS, max_size=6) | st.just([FIELD, VALUE, 20000]), st.floats(0, 100)), max_size=5)
)
def test_no_answer_upsets_a_nodes_table_or_makes_it_grow_beyond_its_place(told: list[tuple[object, float]]) -> None:
    table = SharedTable([NODE])
    for answer, now in told:
        try:
            found = answers.records(PLACE, answer, lambda _reason: None)
        except RemoteProtocolError:
            found = ()
        table.learn(PLACE, found, now)
        assert {place_of(trigger.identifier) for trigger in table.match(X, now)} <= {PLACE}
        assert len(table.all_of(PLACE)) == len(found)
    table.doubt(None)
    assert not table.all_of(PLACE)


def test_a_trigger_of_another_place_or_of_nobody_is_left_out_and_counted_and_the_others_stand() -> None:
    other = scripts.field_of(Identifier(b"\1" * 32), OF.target)
    refused = Counter[str]()

    def count(reason: str) -> None:
        refused[reason] += 1

    told = [other, VALUE, 20000, FIELD, VALUE, 20000, FIELD, VALUE, 20000, None, VALUE, 20000, FIELD, VALUE, -1]
    assert answers.records(PLACE, told, count) == (OF,)
    assert refused == {"store-trigger": 4}


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: READERS["records"]([FIELD, VALUE, 1] * (MOST_ADDRESSES + MOST_STACKS + 1)), "store-length"),
        (lambda: READERS["records"]([FIELD]), "store-type"),
        (lambda: READERS["kept"]([200, []]), "store-value"),
        (lambda: READERS["facts"]([b"short", 1, []]), "store-value"),
        (lambda: READERS["facts"]([bytes(32), 1 << 60, []]), "store-value"),
        (lambda: READERS["facts"]([bytes(32), 1, [b"no address"]]), "store-value"),
        (lambda: READERS["facts"]([bytes(32), 1, [b"192.0.2.1"] * 1001]), "store-length"),
        (lambda: READERS["slots"]([[0, 16384, [b"h", 7]]]), "store-value"),
        (lambda: READERS["slots"]([[0, 1, [b"a b", 7]]]), "store-value"),
        (lambda: READERS["slots"]([[0, 1, [b"h", 70000]]]), "store-value"),
        (lambda: READERS["changed"]([b"invalidate", [10**12]]), "store-type"),
    ],
)
def test_what_is_too_long_or_not_possible_is_refused_by_its_name(read: Callable[[], object], reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read()
    assert caught.value.reason == reason


def test_what_a_store_of_ours_says_is_read() -> None:
    kept = answers.kept(PLACE, [0, [FIELD, VALUE, 20000]], lambda _reason: None)
    assert (kept.status, kept.records) == (Status.INSERTED, (OF,))
    assert answers.facts([bytes(32), 5000, [b"2001:db8::1"]], [3, 4]) == StoreFacts(bytes(32), 5.0, 7, ("2001:db8::1",))
    assert answers.slots([[0, 5, [b"10.0.0.1", 7001, b"id"], [b"replica", 1]]]) == [(0, 5, "10.0.0.1", 7001)]
    assert answers.slots([[0, 5, [None, 7001]]]) == [(0, 5, "", 7001)]
    assert answers.changed([b"invalidate", [b"i3:t:{%b}" % PLACE.hex().encode(), b"i3:o:{x}", b"i3:t:{zz}"]]) == [PLACE]
    assert answers.changed([b"invalidate", None]) is None
    assert len(PLACE) == PLACE_BYTES


HOSTILE = [
    b"*3\r\n$1\r\na\r\n$1\r\nb\r\n:5\r\n", b"$-1\r\n", b"_\r\n", b":12\r\n", b"#t\r\n", b",nan\r\n",
    b"%1\r\n*0\r\n+x\r\n", b"%1\r\n+a\r\n+b\r\n", b">0\r\n", b">1\r\n*0\r\n", b"*1\r\n" * 5000 + b":1\r\n",
    b":1e400\r\n", b"*99999999999999999999\r\n", b"$99999999999\r\nx", b"*2\r\n-ERR inside\r\n+x\r\n", b"-MOVED 1\r\n",
    b"-MOVED x y z\r\n", b"-ASK 1 2:x\r\n", b"-\r\n", b"-NOSCRIPT \xff\r\n", b"+OK\r\n+OK\r\n+OK\r\n",
    b"\0" * 99 + b"\r\n", b">2\r\n+invalidate\r\n:1000000000000\r\n:1\r\n",
]  # fmt: skip
TRUE = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"CLIENT": b"+OK\r\n", b"SCRIPT": b"$40\r\n" + b"a" * 40 + b"\r\n"}


async def lying(lie: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a server does, but for what scripts return."""
    with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                words.append(await reader.readexactly(size + 2))
            script = words[0].startswith(b"EVAL")
            writer.write(lie if script else TRUE.get(words[0][:-2], b"-ERR no cluster\r\n"))
    writer.close()


def test_a_store_is_closed_while_it_lets_go_of_a_server_that_was_lost() -> None:
    """Whoever looks after the connections may be ended at any await."""

    async def run() -> None:
        server = await asyncio.start_server(partial(lying, b">0\r\n"), "127.0.0.1", 0)
        store = ValkeyTriggers(
            [f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"], lambda _: None, lambda *_: None
        )
        await store.start()
        (one,) = store._servers.values()
        assert one.link is not None
        one.link.lost = "lost"
        for _ in range(10**5):
            if one.link is None or one.link._reader is None or one.link._reader.cancelling():
                break
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await store.close()
        server.close()

    asyncio.run(run())


def test_no_bytes_of_a_server_end_a_node_that_asks_it() -> None:
    async def ask(lie: bytes) -> None:
        server = await asyncio.start_server(partial(lying, lie), "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        store = ValkeyTriggers([url], lambda _place: None, lambda *_: None)
        await store.start()
        assert store.servers == {url[8:]: None}
        with contextlib.suppress(StoreUnavailable):
            assert await store.look_up(PLACE) == ()
        with pytest.raises(StoreUnavailable):
            await store.facts()
        assert set(store.refused) <= REASONS
        refused.update(store.refused)
        await store.close()
        server.close()

    refused = Counter[str]()
    for lie in HOSTILE:
        asyncio.run(ask(lie))
    assert refused["store-type"] > 5, refused
