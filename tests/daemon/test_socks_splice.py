"""A spliced session that a killed proxy has left: with its leg where the client was told that it may go on."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from sojourn.daemon.socks_session import Notes
from sojourn.daemon.socks_splice import FORMAT, KeptSplice, SplicedSession, Splices
from sojourn.daemon.socks_table import Sessions
from sojourn.linux import bpf_pin, keeper
from sojourn.linux.clock import now
from sojourn.linux.splice import Kept
from sojourn.linux.splice_tables import SpliceTables
from sojourn.msocks.frames import Challenges
from sojourn.msocks.session import PROVING, UNPROVED_HOLD, Entry, Limits
from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, HalfFlag, Pair, State
from tests.harness.socks_ground import pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs, TCP_REPAIR")
ID = b"s" * 16


@pytest.fixture
def tables() -> Iterator[SpliceTables]:
    made = SpliceTables(bpf_pin.place() / f"sojourn-left-{os.getpid()}" / "one", 4)
    yield made
    made.close(clean=True)


@pytest.mark.parametrize("told", [False, True])
def test_who_was_not_told_is_cut_off_and_soon_forgotten(tables: SpliceTables, told: bool) -> None:
    async def main() -> None:
        line, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (near, far), (leg, client) = pair(), pair()
        sessions = Sessions(Limits(), Challenges(b"secret"), 1 << 16, Counter())
        sessions.notes = Notes(line)
        sessions.splices = Splices(sessions, tables, Counter(), 7440.0)
        place, left = tables.take(), Pair(State.SPLICED)
        assert place is not None
        left.halves[CORRESPONDENT].flags = HalfFlag.OWN
        left.halves[CLIENT].flags = HalfFlag.OWN
        tables.write(place, left)
        if told:
            leg.send(b"the answer")
            left.halves[CLIENT].flags = 0  # the program has seen it acknowledged
            tables.write(place, left)
        entry = Entry(ID, "ann", b"k" * 32, unproved_until=now() + PROVING)
        kept = KeptSplice(FORMAT, entry, Kept(place, tables.serial(place), 0, 0))
        note = keeper.Note(ID, msgspec.msgpack.encode(kept))
        sessions._restore(note, [near.detach(), leg.detach()])
        found = sessions.table.entries[ID]
        if told:
            assert found.legless_since is None
            assert sessions.table.expired(now() + PROVING) == []
        else:
            written = keeper.receive(its)
            assert written is not None
            assert (written[0].name, len(written[1])) == (ID, 1), "the keeper lets go of the leg, too"
            keeper.close(written[1])
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert sessions.table.expired(now() + UNPROVED_HOLD - 1) == []
            assert sessions.table.expired(now() + UNPROVED_HOLD) == [ID]
        restored = sessions.running[ID]
        assert isinstance(restored, SplicedSession)
        assert restored.joint is not None
        assert (restored.joint.leg is not None) == told
        for sock in (restored.near, restored.joint.leg, far, client, line, its):
            if sock is not None:
                sock.close()
        asyncio.get_running_loop().remove_reader(tables.ring.fd)

    asyncio.run(main())
