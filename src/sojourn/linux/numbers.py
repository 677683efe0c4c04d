"""The one block of numbers that Sojourn takes from the kernel's shared name spaces.

| what | number | who |
| --- | --- | --- |
| rule priorities | 5300-5399 | linux/capture.py lays them out |
| routing tables | 5200 | the capture: default route to the TUN device |
| | 5201-5298 | one an interface that is a network |
| protocol of rules and routes | 90 | whatever carries it in the block is ours, and nothing else is |
| packet marks | 0x5a000000/0xff000000 | a socket with this mark goes direct |

Marks are always compared under the mask, so that others may use the low 24 bits.
The priorities are below Tailscale's (5210-5270), whose table has its own specific routes, and above
main's (32766) and wg-quick's.
"""

FIRST_PRIORITY, LAST_PRIORITY = 5300, 5399
CAPTURE_TABLE = 5200
FIRST_NETWORK_TABLE, LAST_NETWORK_TABLE = 5201, 5298
PROTOCOL = 90
MARK, MARK_MASK = 0x5A000000, 0xFF000000

PLACEHOLDER6 = "fd73:6f6a:6f75:726e::1"
"""The IPv6 source of traffic that a kill switch holds back while there is no vipa6 ("sojourn" in the prefix)."""


def is_our_table(table: int) -> bool:
    """Say whether a routing table belongs to the block."""
    return CAPTURE_TABLE <= table <= LAST_NETWORK_TABLE


def is_our_priority(priority: int) -> bool:
    """Say whether a rule's priority belongs to the block."""
    return FIRST_PRIORITY <= priority <= LAST_PRIORITY
