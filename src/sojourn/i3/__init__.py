"""The Internet indirection infrastructure (i3): packets are sent to identifiers, triggers say where those lead.

* An `Identifier` (identifier.py) is 256 bits; a `Trigger` (table.py) leads from one to an address or to further
  identifiers. Whoever inserts one shows a right to it (proof.py) and receives at its address (challenge.py).
* `RendezvousNode` (node.py) keeps the triggers and forwards packets (forwarding.py), shares itself out among its
  users (shares.py), and `RendezvousClient` (client.py) is a host's half.
* A host's home address is made of its keys (home.py), so that H(home address), its public identifier, is provable.

Read docs/wire.md, rendezvous, for the bytes, and then tests/i3/test_dialogue.py.
"""
