"""Numbers of the tunnel: first the protocol's, then ours. Seconds and bytes unless the name says otherwise."""

from typing import Final

# The protocol's (DESIGN §3.2, docs/wire.md).
OUTER_UDP_IPV4: Final = 28
OUTER_UDP_IPV6: Final = 48
BASE_DATAGRAM: Final = 1200
"""UDP payload that any path is expected to carry (RFC 9000 §14): challenges and first packets are padded to it."""
MIN_INNER_MTU: Final = 1280
"""What IPv6 needs (RFC 8200 §5): the TUN's MTU is never less."""
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
MEASURE_EVERY: Final = 1.0
"""How often an active tunnel is probed and reported on."""
ACTIVE_FOR: Final = 2.0
"""A tunnel is active for so long after data passed."""

# Ours: silence.
SILENCE_FLOOR: Final = 0.2
QUIET: Final = 0.03
"""Data is outstanding and nothing was heard for so long: start to ask."""
ASK_WITHIN: Final = 0.015
"""The probes that a verdict needs are sent within this time after the first."""
ASK_AGAIN: Final = 0.05
"""Spacing of further probes while there is no verdict."""
FALSE_ALARM: Final = 1e-6
"""How improbable it must be that loss alone explains the missing answers."""
MAX_WITNESSES: Final = 8
IDLE_WITNESSES: Final = 3
"""Missing answers that a verdict on an idle tunnel needs."""
PROBE_MEMORY: Final = 10.0
"""A late answer still counts for so long."""
MAX_OUTSTANDING: Final = 256

# Ours: tests and keep-alive.
KEEP_ALIVE: Final = 25.0
FIRST_TESTS: Final = 0.05
"""Least spacing of the first probes on a fresh tunnel; it doubles."""
TEST_SPACING_MAX: Final = 1.0
BLOCKED_AFTER: Final = 3.0
BLOCKED_SPACING: Final = 5.0
SILENT_SPACING_MAX: Final = ((60.0, 0.5), (600.0, 1.0), (float("inf"), 5.0))
"""Silent for less than .. seconds: probes at most .. seconds apart."""
AWAY_AFTER: Final = 3.0
"""Anchor: data went to a host for so long and nothing came back: newest packets are kept for it."""
AWAY_ASK_AFTER: Final = 1.0
AWAY_ASK_SPACING: Final = 0.5
AWAY_SPACING_MAX: Final = 30.0

# Ours: keys.
OLD_KEYS_AT_LEAST: Final = 0.1
EPOCH_ANSWER_EVERY: Final = 1.0
SECRET_NEEDED_EVERY: Final = 10.0

# Ours: path MTU (RFC 8899 §5.1.2 has the roles of these).
MTU_PROBES: Final = 3
MTU_CONFIRM_EVERY: Final = 5.0
MTU_RAISE_AFTER: Final = 600.0
MTU_CANDIDATES: Final = (9000, 4352, 1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1340, 1300, 1280, 1240)
"""Outer packet sizes that real paths have; asked about all at once when the largest did not pass."""
