"""The kernel path: plain tunnels whose packets BPF programs at tc carry (bpf/plain.bpf.c), beside an engine.

The engine goes on owning devices, sockets and protocol logic, and takes every packet that the programs leave alone.
This file keeps the programs' tables in step with the forwarder, and tells its tunnels what the programs have carried:
silence, measurement and expiry then work as with any engine.

Timers: counters of tunnels that carry packets, every `POLL` and before anything is judged by them; counters of rows,
a slice every `ROWS_EVERY` while there is traffic; `ATTEND_EVERY`: the programs stop when nobody has looked after
them for 60 s; `ADOPTED_FOR` after a start: what a predecessor has left and nobody claims is dropped.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.kernel_layout import Flag, TunnelEntry
from sojourn.datapath.kernel_links import Links
from sojourn.datapath.kernel_rows import KernelRows
from sojourn.datapath.kernel_tables import ATTENDED_FOR, Count, KernelTables, slept
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt.tunnel import Tunnel
from sojourn.upmt.tunnel_keys import Ends

POLL: Final = 0.02
IDLE: Final = 0.25
"""A tunnel that has carried nothing for so long is not polled: its next packet wakes us."""
ROWS_EVERY: Final = 0.25
ATTEND_EVERY: Final = 20.0
ADOPTED_FOR: Final = 3.0


class Way(NamedTuple):
    """By which interface (its index) a tunnel's packets leave, and from where."""

    interface: int
    local: Endpoint


class _Held:
    """A tunnel in the maps."""

    def __init__(self, slot: int, entry: TunnelEntry | None, seen: Count) -> None:
        self.slot = slot
        self.entry = entry
        """As it stands in the maps; None: it does not, for now."""
        self.seen = seen


class KernelPath:
    """Programs, tables, and one forwarder that decides."""

    def __init__(
        self,
        forwarder: Forwarder,
        tables: KernelTables,
        links: Links,
        way: Callable[[Tunnel], Way | None],
        device: int,
        now: float,
        *,
        zero_checksum6: bool = False,
    ) -> None:
        """`way` says how a tunnel's packets leave, None while that is unknown; `device`: the TUN's index."""
        self.tables = tables
        self._forwarder = forwarder
        self._links = links
        self._way = way
        self._device = device
        self._zero_checksum6 = zero_checksum6
        self.tunnels = 0
        """How many tunnels the programs carry."""
        self._held: dict[TunnelId, _Held] = {}
        self._by_slot: dict[int, TunnelId] = {}
        self._touched: set[TunnelId] = set()
        self._roomless: dict[bool, dict[TunnelId, None]] = {False: {}, True: {}}
        """Those for which there was no room, IPv4's and IPv6's: each family has a map of its own, and both have one for
        tunnels. When one has gone, the newest that may fit there is looked at again."""
        self._active: set[TunnelId] = set()
        self._polled_at = self._rows_at = self._attend_at = float("-inf")
        self._counting = False
        self._adopted_until: float | None = None
        self._adopted: dict[AssociationId, list[int]] = {}
        """The slots that a predecessor's tunnels have, until then."""
        self.rows = KernelRows(forwarder, tables, self._slot_of)
        self._ends = forwarder.ends or Ends()
        forwarder.ends = self._ends._replace(changed=self._changed)
        self._adopt(now)
        self._attend(now)

    def close(self) -> None:
        """Stop carrying packets."""
        self.tables.attend(0.0, self._device, self._forwarder.is_anchor)
        self.rows.detach()
        self._forwarder.ends = self._ends
        self._links.close()
        self.tables.close()

    def _adopt(self, now: float) -> None:
        places, tunnels = self.tables.adopt()
        if not places and not tunnels:
            return
        for slot, entry in tunnels.items():
            self._hold(TunnelId(entry.id), _Held(slot, entry, self.tables.tunnel_count(slot)))
            self._adopted.setdefault(AssociationId(entry.association), []).append(slot)
            self.tunnels += 1
            with contextlib.suppress(OSError):  # the interface has gone: the tunnel will leave by another
                self._links.arrive(entry.interface)  # or what our predecessor has attached would be closed
        self.rows.adopt(places)
        self._active.update(self._held)
        self._adopted_until = now + ADOPTED_FOR

    def _hold(self, number: TunnelId, held: _Held) -> _Held:
        self._held[number], self._by_slot[held.slot] = held, number
        return held

    # What has changed.

    def _changed(self, tunnel: TunnelId) -> None:
        self._touched.add(tunnel)
        if self._ends.changed is not None:
            self._ends.changed(tunnel)

    def touch(self, tunnels: Iterable[TunnelId] | None = None) -> None:
        """Look at tunnels again with the next flush; without an argument at all that are held."""
        self._touched.update(self._held if tunnels is None else tunnels)

    def flush(self) -> None:
        """Write down what has changed. After everything that may have changed a row or a tunnel; cheap otherwise."""
        if self._touched:
            touched, self._touched = self._touched, set()
            for number in touched:
                self._settle(number)
        self.rows.flush()

    def _settle(self, number: TunnelId) -> None:
        tunnel, held = self._forwarder.tunnels.get(number), self._held.get(number)
        for waiting in self._roomless.values():
            waiting.pop(number, None)
        if held is None and (tunnel is None or tunnel.sealed):
            return
        if tunnel is None or tunnel.sealed:
            if held is not None and self._adopted_until is None:
                self._drop(number, held)
            return
        entry = self._entry(tunnel)
        try:
            if entry is not None:
                self._put(tunnel, entry, held)
            elif held is not None and held.entry is not None:
                self._take_out(held, held.entry)
        except OSError:
            self._no_room(number)

    def _no_room(self, number: TunnelId) -> None:
        """Leave a tunnel to the engine until there is room again."""
        self._forwarder.totals["kernel-full"] += 1
        tunnel = self._forwarder.tunnels.get(number)
        self._roomless[tunnel is not None and tunnel.outer is not None and _is6(tunnel.outer)][number] = None

    def _entry(self, tunnel: Tunnel) -> TunnelEntry | None:
        way = self._way(tunnel) if tunnel.outer is not None else None
        if way is None or tunnel.outer is None:
            return None
        six = _is6(tunnel.outer)
        if six and not self._zero_checksum6:
            return None  # RFC 6936: both sides have to agree to it
        flags = Flag.ZERO_CHECKSUM6 if six else Flag(0)
        if tunnel.fast:
            flags |= Flag.USABLE
        if tunnel.may_fragment:
            flags |= Flag.MAY_FRAGMENT
        return TunnelEntry(
            tunnel.id, tunnel.association, way.interface, tunnel.inner_mtu, flags, way.local, tunnel.outer,
        )  # fmt: skip

    def _put(self, tunnel: Tunnel, entry: TunnelEntry, held: _Held | None) -> None:
        if held is None:
            slot = self.tables.new_slot()
            if slot is None:
                self._no_room(tunnel.id)
                return
            held = self._hold(tunnel.id, _Held(slot, None, Count()))
            self.rows.tunnel_came(tunnel.association, tunnel.id)
            for left in self._adopted.pop(tunnel.association, ()):
                self.rows.leave_slot(left)  # the host is somewhere else by now
        if entry != held.entry:
            before = held.entry
            if before is None or before.interface != entry.interface:
                self._links.arrive(entry.interface)
            held.entry = None
            self.tunnels -= before is not None
            self.tables.put_tunnel(held.slot, entry, before)
            self.tunnels += 1
            held.entry = entry

    def _take_out(self, held: _Held, entry: TunnelEntry) -> None:
        self.tables.drop_tunnel(held.slot, entry)
        self.tunnels -= 1
        held.entry = None

    def _drop(self, number: TunnelId, held: _Held) -> None:
        entry = held.entry
        if entry is not None:
            self._take_out(held, entry)
        del self._held[number], self._by_slot[held.slot]
        self._active.discard(number)
        self.rows.leave_slot(held.slot)
        self.tables.free_slot(held.slot)
        six = entry is not None and _is6(entry.remote)
        for waiting in (self._roomless[six], self._roomless[not six]):
            if waiting:
                self._touched.add(waiting.popitem()[0])
                break
        if entry is not None and not self._forwarder.is_anchor:  # an anchor's interfaces are few, and stay
            self._links.keep({other.entry.interface for other in self._held.values() if other.entry is not None})

    def _slot_of(self, tunnel: TunnelId) -> int | None:
        held = self._held.get(tunnel)
        return held.slot if held is not None else None

    # What the programs have carried.

    def wake(self, now: float) -> None:
        """Look at the tunnels that have begun to carry packets: the ring is readable."""
        slots = self.tables.woken()
        if slots is None:
            self._forwarder.totals["kernel-wakes-full"] += 1
            self._active.update(self._held)
        else:
            self._active.update(self._by_slot[slot] for slot in slots if slot in self._by_slot)
        self.sync(now)

    def sync(self, now: float) -> None:
        """Tell tunnels what they have carried. Before anything is judged by it, or reported."""
        for number in list(self._active):
            held = self._held.get(number)
            if held is None or not self._sync(number, held, now):
                self._active.discard(number)
        self._polled_at = now
        self._counting = self._counting or bool(self._active)

    def _sync(self, number: TunnelId, held: _Held, now: float) -> bool:
        """Do so for one, and say whether it carries packets now."""
        count, seen = self.tables.tunnel_count(held.slot), held.seen
        tunnel = self._forwarder.tunnels.get(number)
        if count != seen and tunnel is not None:
            held.seen = count
            if count.out_at <= count.in_at:
                self._sent(tunnel, count, seen, now)
                self._heard(tunnel, count, seen, now)
            else:
                self._heard(tunnel, count, seen, now)
                self._sent(tunnel, count, seen, now)
        return now - slept() - max(count.out_at, count.in_at) < IDLE

    def _sent(self, tunnel: Tunnel, count: Count, seen: Count, now: float) -> None:
        packets = count.packets_out - seen.packets_out
        if packets > 0:
            self._forwarder.totals["kernel-carried-out"] += packets
            tunnel.sent(min(count.out_at + slept(), now), packets, count.bytes_out - seen.bytes_out)

    def _heard(self, tunnel: Tunnel, count: Count, seen: Count, now: float) -> None:
        packets = count.packets_in - seen.packets_in
        if packets > 0:
            self._forwarder.totals["kernel-carried-in"] += packets
            tunnel.heard(min(count.in_at + slept(), now), packets, count.bytes_in - seen.bytes_in)
            association = self._forwarder.associations.get(tunnel.association)
            if association is not None:
                association.last_heard = tunnel.id

    def report(self, now: float) -> None:
        """Bring everything that is counted up to date."""
        self._active.update(self._held)
        self.sync(now)
        self.rows.count_all()
        totals = self._forwarder.totals
        totals["kernel-tunnels"], totals["kernel-rows"] = self.tunnels, len(self.rows)
        totals.update({name: count - totals[name] for name, count in self.tables.reasons().items()})

    # Time.

    def deadline(self) -> float:
        """When `tick` is wanted next."""
        due = min(self._attend_at, self._adopted_until or self._attend_at)
        if self._counting:
            due = min(due, self._rows_at)
        return min(due, self._polled_at + POLL) if self._active else due

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.sync(now)
        if self._counting and now >= self._rows_at:
            self._rows_at = now + ROWS_EVERY
            self._counting = not self.rows.count_some() or bool(self._active)
        if self._adopted_until is not None and now >= self._adopted_until:
            self._adopted_until = None
            self._adopted.clear()
            self.rows.forget_strangers()
            self.touch()
        if now >= self._attend_at:
            self._attend(now)

    def _attend(self, now: float) -> None:
        self._attend_at = now + ATTEND_EVERY
        self.tables.attend(now + ATTENDED_FOR, self._device, self._forwarder.is_anchor, self._links.joiner)


def _is6(endpoint: Endpoint) -> bool:
    return ":" in endpoint.address
