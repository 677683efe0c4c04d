"""Sojourn keeps every flow of a computer alive while the computer changes networks.

A tour, in the order in which a packet meets the program:

* A `Flow` (model.py) is a 5-tuple seen from the *mobile host*, whose side carries
  the virtual IP address (`Vipa`) that the *anchor* lent it.
* A `Tunnel` (upmt/tunnel.py) is IP in UDP over one access *network*; a host has one
  a network, each *sealed* (packet/seal.py) or *plain*.
* The `Paft` (paft.py) says which tunnel carries which flow. Host and anchor hold one
  each, and a *handover* is nothing but the same row changed at both ends.
* A *data path* (datapath/base.py) moves packets by that table: the obvious one in
  datapath/memory.py, the fast one in datapath/engine.py.
* `MobileHost` (upmt/mobile_host.py) and `Anchor` (upmt/anchor.py) are machines: events
  in, commands out, no socket and no clock (machine.py). They associate by SIP REGISTER
  and hand over by SIP MESSAGE (sip/, upmt/signals.py).
* `control/` decides which network is best and keeps the reasons; `linux/` turns commands
  into routes, rules and sockets; `daemon/` connects all of it and decides nothing.

Read next: paft.py, upmt/mobile_host.py, and then tests/upmt/test_handover.py.
"""

__version__ = "0.1.0"
