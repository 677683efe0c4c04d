"""Numbers of the tunnel: first the protocol's, then ours. Seconds and bytes unless the name says otherwise."""

from typing import Final

# The protocol's (DESIGN §3.2, docs/wire.md).
AMPLIFICATION: Final = 3
"""An unproved address gets at most this many times the bytes that came from it (RFC 9000 §8.1)."""
PROOF_RTTS: Final = 3
"""An unproved address that does not answer for so many RTT is given up; old keys live as long."""

# Ours: measurement (RFC 6298's names).
RTT_ALPHA: Final = 1 / 8
RTT_BETA: Final = 1 / 4
INITIAL_RTT: Final = 0.3
"""Assumed until the first answer."""
LOSS_WINDOW: Final = 10.0
MEASURE_EVERY: Final = 0.2
"""How often a host probes an active tunnel and reports on it: loss that a call suffers from is found within 1 s."""
ANCHOR_MEASURE_EVERY: Final = 5.0
ACTIVE_FOR: Final = 2.0
"""A tunnel is active for so long after data passed."""

# Ours: silence at the host.
SILENCE_FLOOR: Final = 0.175
"""Seconds without a sign of life that are judged at least. A stream of 50 packets/s then pauses for 200 ms at most
(whole packet intervals), and an end that is not scheduled for 150 ms is not taken for dead."""
STREAM_GAP: Final = 0.1
"""Data packets less than this apart are a stream: the next one is expected."""
QUIET: Final = 0.03
"""Something is expected and nothing was heard for so long: ask."""
ASK_WITHIN: Final = 0.015
"""The probes that a verdict needs are sent within so long after the first of them."""
ASK_AGAIN: Final = 0.05
"""Least spacing of further ones."""
FALSE_ALARM: Final = 1e-6
"""How improbable it must be that loss alone explains the missing answers."""
WITNESSES_MAX: Final = 8
WITNESSES_IDLE: Final = 3
"""Missing answers that a verdict needs: at most, and on an idle tunnel."""
ONE_WAY_AFTER: Final = 1.0
"""Data comes in, but no probe was answered for so long: only the way out is dead."""
ONE_WAY_ASK: Final = 0.15
PROBE_MEMORY: Final = 10.0
"""A late answer still counts for so long."""
OUTSTANDING_MAX: Final = 512
PROBES_AT_ONCE: Final = 64
PROBES_PER_SECOND: Final = 30.0
PROBES_PER_SECOND_DEAF: Final = 2.0
PROBES_DEAF_AFTER: Final = 2.0
"""What a tunnel sends at most of its own accord, whatever asks: a bucket, filled more slowly while nothing is answered.
Far above what a search for a path MTU, a stream with gaps and a verdict need together."""

# Ours: tests and keep-alive at the host.
KEEP_ALIVE: Final = 25.0
FIRST_TESTS: Final = 0.05
"""Least spacing of the first probes on a fresh tunnel, and on one that fell silent; it doubles."""
TEST_SPACING_MAX: Final = 1.0
BLOCKED_AFTER: Final = 3.0
BLOCKED_SPACING: Final = 5.0
SILENT_SPACING: Final = ((60.0, 0.5), (600.0, 1.0), (float("inf"), 5.0))
"""Silent for less than .. seconds: probes at most .. seconds apart."""

# Ours: absence of a host, at the anchor.
AWAY_AFTER: Final = 3.0
"""Data went to a host for so long and nothing came back: newest packets are kept for it."""
AWAY_ASK_AFTER: Final = 1.0
AWAY_ASK_AGAIN: Final = 0.5
AWAY_SPACING_MAX: Final = 30.0

# Ours: keys and addresses.
OLD_KEYS_AT_LEAST: Final = 0.1
PROOF_AT_LEAST: Final = 0.2
EPOCH_ANSWER_EVERY: Final = 1.0
SECRET_NEEDED_EVERY: Final = 10.0
