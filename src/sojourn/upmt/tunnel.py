"""One tunnel's machine, at either end: keys, outer address, life, measurement and path MTU in one place.

Each of these is a small machine of its own (tunnel_keys, tunnel_path, tunnel_alive, tunnel_measure,
packet/path_mtu); this file feeds them and turns what they want into frames and events. Timers: those of
the parts; `deadline` is the earliest. A mobile host's tunnel knows its anchor's address from its
order and never follows another; an anchor's follows its host by authenticated packets.
"""

from sojourn.model import Endpoint
from sojourn.packet.frame import Answer, Challenge, Close, EpochFrame, Frame, Probe, Response
from sojourn.packet.path_mtu import BASE_DATAGRAM, MTU_TIMEOUT_AT_LEAST
from sojourn.packet.seal import OVERHEAD_BYTES, KeySchedule, Opened
from sojourn.upmt.commands import Role
from sojourn.upmt.constants import EPOCH_ANSWER_EVERY
from sojourn.upmt.events import (
    TunnelBlocked,
    TunnelClosed,
    TunnelFailed,
    TunnelMoved,
    TunnelRecovered,
    TunnelSilent,
    TunnelTested,
)
from sojourn.upmt.tunnel_alive import AnchorLiveness, HostLiveness, Life, Wants
from sojourn.upmt.tunnel_keys import Epochs, TunnelKeys
from sojourn.upmt.tunnel_path import Ask
from sojourn.upmt.tunnel_state import Ready, SendFrame, Tell, TunnelCommand, TunnelState

__all__ = ["Ready", "SendFrame", "Tell", "Tunnel", "TunnelCommand"]

_NEVER = float("inf")
_EPOCH_FRAME_BYTES = OVERHEAD_BYTES + 6


class Tunnel(TunnelState):
    """One path between a mobile host and its anchor: what happens, and what it does about it."""

    # Orders.

    def install(self, schedule: KeySchedule, epochs: Epochs, now: float) -> None:
        """Take in the association's secrets: the first time, and whenever a new one has joined them."""
        if not self.sealed:
            return
        if self.keys is None:
            self.keys = TunnelKeys(self.id, self.role, schedule, epochs, self._ends)
            self.opener = self.keys.opener
            needed = self.keys.begin(now) if self.role is Role.HOST else False
        else:
            needed = self.keys.installed(now)
            if self.keys.sealer is None and self.role is Role.HOST:
                needed = self.keys.begin(now)
        self._after_keys(needed)
        self._changed(now)

    def adopt_secret(self, now: float) -> None:
        """Anchor: the host has sealed with the newest secret, on whichever tunnel: do so, too."""
        if self.keys is not None:
            self._after_keys(self.keys.adopt(now))
            self._changed(now)

    def open(self, remote: Endpoint, now: float, *, ready: bool = True) -> None:
        """Host: use the tunnel towards `remote`, over a network that is new to it, and test it at once.

        `ready` False: a plain tunnel that signalling has to set up first; only control sends till then.
        Anchor: take `remote` as proved (a plain tunnel, or one restored).
        """
        self._closed = not ready
        self.path.set(remote)
        self._new_path(now)
        if isinstance(self.live, HostLiveness):
            self.live.begin(now)
        else:
            self._search.start(now)
            if not self.sealed:
                self._heard(now)  # it was just set up: the host is there
        self._changed(now)

    def restore(self, proved: Endpoint, now: float) -> None:
        """Anchor: go on sending to the address that was proved to the data path before this one."""
        if self.keys is not None:
            self._after_keys(self.keys.begin(now))
        self.open(proved, now)

    def watch(self, seconds: float, now: float) -> None:
        """Probe and report for so long as if data passed."""
        self.live.watch(now + seconds, now)
        self._changed(now)

    def retest(self, now: float) -> None:
        """Forget what was measured and test anew: the machine slept.

        A plain tunnel may have to be set up anew: flows wait until the anchor has answered.
        """
        if self.outer is None or self._closed or not isinstance(self.live, HostLiveness):
            return
        if self.sealed:
            self.open(self.outer, now)
        else:
            self.live.fail(now)
            self._changed(now)

    def close(self) -> list[TunnelCommand]:
        """Give the tunnel up; tell the peer."""
        commands: list[TunnelCommand] = []
        if self.outer is not None and self.sealed and self._can_seal():
            commands.append(SendFrame(Close(self._opened()), self.outer))
        self._closed, self.usable, self.fast = True, False, False
        return commands

    def failed(self, why: str, now: float) -> list[TunnelCommand]:
        """Take in that the system refused to send or to open the socket; tell it once until something is heard."""
        if not isinstance(self.live, HostLiveness):
            return []
        was, self._failed = self._failed, True
        self.live.fail(now)
        self._changed(now)
        return [] if was else [Tell(TunnelFailed(self.id, why))]

    # The hot loop's methods.

    def heard(self, now: float, packets: int, size: int) -> None:
        """Note authentic data packets, `size` bytes of UDP payload in all. Once a batch."""
        self.packets_in += packets
        self.bytes_in += size
        self.live.data_in(now)
        if not self.fast:
            self._heard(now)
            self._changed(now)
        elif self.keys is not None:
            self._settle_keys(self.keys, now)
        if self.live.due < self.armed:
            self._wake_at(self.live.due)

    def sent(self, now: float, packets: int, size: int) -> None:
        """Note data packets that went out, `size` bytes of UDP payload in all. Once a batch."""
        self.packets_out += packets
        self.bytes_out += size
        self.live.data_out(now)
        keys = self.keys
        if keys is not None and (now >= keys.step_at or keys.step_at == _NEVER or not keys.may_seal()):
            self._after_keys(keys.sent(now))
            self._changed(now)
        if self.live.due < self.armed:
            self._wake_at(self.live.due)

    def answered_elsewhere(
        self,
        now: float,
        reported: int,
        incoming: tuple[int, int],
        outgoing: tuple[int, int],
        opened: tuple[int, int] | None = None,
    ) -> None:
        """Note probes of the peer, the last of them at `now`, that were answered without us; as `on_frame` does.

        Each way packets and bytes; `reported` is what the newest of them has said to have opened; `opened`: the newest
        epoch of the peer's and its highest counter, where the caller knows them.
        """
        self.packets_in += incoming[0]
        self.bytes_in += incoming[1]
        self.packets_out += outgoing[0]
        self.bytes_out += outgoing[1]
        self.live.last_out = max(self.live.last_out, now)
        keys = self.keys
        if keys is not None:
            keys.reported(reported)
            self._settle_keys(keys, now, opened)
            if keys.frame_may_step(now):
                self._after_keys(keys.frame_sent(now))
                self._changed(now)
        if isinstance(self.live, HostLiveness):
            self.live.frame_in(now)
        elif self.live.life is Life.UP:
            self.live.answered(now)
        else:
            self._heard(now)
            self._changed(now)

    def advanced(self, now: float) -> None:
        """Note that a packet has opened in a new epoch; it is told of itself elsewhere."""
        if self.keys is not None:
            self._settle_keys(self.keys, now)

    def settle(self, now: float) -> None:
        """Take back a deadline that what came since has put off: nothing would be found to do then."""
        if now < self.armed:
            self.live.settle(now)
            self.armed = _NEVER
            self._rearm(now)

    # Slow path.

    def wanted(self, now: float) -> None:
        """Anchor: note that data is kept for a host that is away."""
        if isinstance(self.live, AnchorLiveness):
            self.live.data_out(now)
            self._rearm(now)

    def on_source(self, source: Endpoint, opened: Opened, size: int, now: float) -> list[TunnelCommand]:
        """Take note where an authentic packet came from; called before `heard` or `on_frame`.

        Needed whenever `source` is not `outer`, or `outer` is unproved. It revives a closed tunnel.
        """
        if self.role is Role.HOST or not self.sealed:
            return []
        self._closed = self._closed and not opened.highest
        if self.keys is not None and self.keys.sealer is None:
            self._after_keys(self.keys.begin(now))
        before = self.path.proved
        asks = self.path.came(source, size, opened.highest, now, self._proof_rtt())
        if self.path.credit is None and self.path.proved != before:
            self._new_path(now)
        self._changed(now)
        return self._challenges(asks)

    def on_stale(self, source: Endpoint, size: int, now: float) -> list[TunnelCommand]:
        """Answer a packet of an epoch that the peer should have left; never by more than came."""
        if now < self._told_epoch_at + EPOCH_ANSWER_EVERY or size < _EPOCH_FRAME_BYTES or not self._can_seal():
            return []
        self._told_epoch_at = now
        return [SendFrame(EpochFrame(self._opened()), source)]

    def on_frame(
        self, frame: Frame, source: Endpoint, opened: Opened | None, size: int, now: float
    ) -> list[TunnelCommand]:
        """Take in an authentic control frame (`opened` is None in a plain tunnel)."""
        self.packets_in += 1
        self.bytes_in += size
        if self.keys is not None:
            self.keys.reported(frame.opened)
        if isinstance(self.live, HostLiveness) and not isinstance(frame, Answer):
            self.live.frame_in(now)
        self._heard(now)
        commands: list[TunnelCommand] = []
        match frame:
            case Answer():
                commands = self._on_answer(frame, now)
            case Probe():
                commands = self._answer(frame, source, now)
            case Challenge(data=data):
                commands = [SendFrame(Response(self._opened(), data), source)]
            case Response(data=data):
                commands = self._on_response(source, data, now)
            case Close() if self.sealed:  # in a plain tunnel anybody may have said so
                self._closed = True
                self.path.set(None)
                commands = [Tell(TunnelClosed(self.id))]
        self._changed(now)
        return commands

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        self.live.shift(gap)
        self._rearm(now)

    def frame_sent(self, size: int, now: float, *, counts: bool = True) -> None:
        """Note that a control frame went out; the forwarder calls it once a frame.

        `counts`: not so a path MTU probe. That many of those get lost is no property of the path's.
        """
        self.packets_out += counts
        self.bytes_out += size
        self.live.last_out = max(self.live.last_out, now)
        if self.keys is not None:
            self._after_keys(self.keys.frame_sent(now))

    def tick(self, now: float) -> list[TunnelCommand]:
        """Do what is due. Early, late or twice is harmless."""
        commands, self._pending = self._pending, []
        self.armed = _NEVER
        if self.outer is not None and not self._closed and self._can_seal():
            if now >= self.live.due and self._may_ask(now):
                commands += self._tick_life(now)
            if now >= self.path.due:
                commands += self._challenges(self.path.tick(now, self._proof_rtt()))
            if self.live.active(now):
                self._search.resume(now)
            if now >= self._search.due and self._search_may_run() and self._may_ask(now):
                commands += self._tick_search(now)
        if self.keys is not None:
            self.keys.tick(now)
        self._changed(now)
        return commands

    # What the parts want, as commands.

    def _tick_life(self, now: float) -> list[TunnelCommand]:
        commands: list[TunnelCommand] = []
        before = self.live.life
        for _ in range(4):
            wants = self.live.tick(now)
            if wants is None:
                break
            test = isinstance(self.live, HostLiveness) and self.live.life in (Life.TESTING, Life.BLOCKED)
            pad = test and isinstance(self.live, HostLiveness) and self.live.asked_for_test() % 3 != 0
            commands += self._probe(now, BASE_DATAGRAM if pad else 0)
            if wants is Wants.MEASURE:
                commands += [Tell(self.measured())] if self._report else []  # the last one was not answered
                self._report = True
        if self.live.life is not before:
            if self.live.life is Life.BLOCKED:
                commands.append(Tell(TunnelBlocked(self.id, "no answer from the anchor: UDP seems to be blocked")))
            elif self.live.life is Life.SILENT:
                commands.append(Tell(TunnelSilent(self.id, now - self.live.last_heard)))
        return commands

    def _probe(self, now: float, pad_to: int, mtu: bool = False) -> list[TunnelCommand]:
        if self.outer is None or not self.spend(pad_to or 64):
            return []
        self.allowance.spend(now)
        sequence = self.probes.new(now, self.packets_out + (not mtu), pad_to if mtu else 0)
        frame = Probe(self._opened(), sequence, _us(now))
        return [SendFrame(frame, self.outer, pad_to, fragment=not mtu)]

    def _may_ask(self, now: float) -> bool:
        return self.allowance.ready_at(now) <= now

    def _answer(self, probe: Probe, source: Endpoint, now: float) -> list[TunnelCommand]:
        # A probe that was overtaken by a move is answered where the host is now.
        destination = source if source == self.outer or self.role is Role.HOST else self.outer
        if destination is None or not self._can_seal() or not self.spend(96):
            return []
        answer = Answer(
            self._opened(),
            probe.sequence,
            probe.sent_us,
            _us(now),
            _us(now),
            self.packets_in,
            self.packets_out + 1,
            source,
        )
        return [SendFrame(answer, destination)]

    def _on_answer(self, answer: Answer, now: float) -> list[TunnelCommand]:
        sent = self.probes.answered(answer.sequence, now, self.rtt.late_after())
        if sent is None:
            return self._on_forgotten(answer, now)
        self.allowance.answered(now)
        spent = max(now - sent.at - (answer.answered_us - answer.received_us) / 1e6, 0.0)
        if not sent.tainted:
            self.rtt.sample(spent, now)
            self.jitter.sample(now - answer.answered_us / 1e6)
        arrived = sent.size > 0  # a probe of the path's MTU counts once it is known that it was let through
        self.packets_out += arrived
        self.losses.sample(
            now, answer.answered_us, sent.packets_out + arrived, answer.packets_in, answer.packets_out, self.packets_in
        )
        if sent.size:
            self._search.passed(sent.size, now)
        return self._alive(answer, spent, now)

    def _on_forgotten(self, answer: Answer, now: float) -> list[TunnelCommand]:
        """Take in the answer to a probe that is too old to measure by: the path works, however late.

        Without that an anchor with more to answer than it can would be asked for ever: each answer would be too old.
        """
        if not isinstance(self.live, HostLiveness):
            return []
        if self.live.life is Life.UP or not self.probes.was_sent(answer.sequence):
            self.live.frame_in(now)
            return []
        return self._alive(answer, max(now - answer.sent_us / 1e6, 0.0), now)

    def _alive(self, answer: Answer, spent: float, now: float) -> list[TunnelCommand]:
        before = self.live.answered(now)
        self._failed = False
        if self.role is Role.ANCHOR or before is Life.UP:
            told, self._report = self._report, False
            return [Tell(self.measured())] if told else []  # The anchor's recovery is told by _heard.
        if before is Life.SILENT:
            return [Tell(TunnelRecovered(self.id))]
        self._search.start(now)
        return [Tell(TunnelTested(self.id, answer.seen, spent))]

    def _on_response(self, source: Endpoint, data: bytes, now: float) -> list[TunnelCommand]:
        before = self.path.proved
        spent = self.path.response(source, data, now)
        if spent is None:
            return []
        if self.path.proved != before:
            self._new_path(now)
        self.rtt.sample(spent, now)
        self._search.start(now)
        self._pending.append(Ready())
        return [Tell(TunnelMoved(self.id, source))]

    def _challenges(self, asks: list[Ask]) -> list[TunnelCommand]:
        if not self._can_seal():
            return []
        return [SendFrame(Challenge(self._opened(), ask.data), ask.destination, ask.pad_to) for ask in asks]

    def _tick_search(self, now: float) -> list[TunnelCommand]:
        timeout = max(self.rtt.late_after(), MTU_TIMEOUT_AT_LEAST)
        sizes = self._search.tick(now, timeout, self.live.last_heard, self.live.active(now))
        return [command for size in sizes for command in self._probe(now, size, mtu=size > 0)]


def _us(now: float) -> int:
    return int(now * 1_000_000)
