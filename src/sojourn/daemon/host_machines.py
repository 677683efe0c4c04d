"""The machines of a mobile host, made from its configuration and what was remembered."""

import os
from collections.abc import Callable

from sojourn.control.config import Credentials, HostConfig
from sojourn.control.decide import Decide, Preferences, ranked
from sojourn.control.host_control import HostControl
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.peers import PeerPaths
from sojourn.control.portals import Portals
from sojourn.daemon.host_memory import HostMemory
from sojourn.daemon.host_policies import HostPolicies
from sojourn.linux.clock import local_time
from sojourn.linux.processor import aeads
from sojourn.model import Endpoint, Network
from sojourn.upmt.anchorless import AnchorlessHost
from sojourn.upmt.association import AssociationClient, AssociationSettings
from sojourn.upmt.host_events import HostSettings, HostState
from sojourn.upmt.lease import Offer
from sojourn.upmt.mobile_host import MobileHost

EXPIRES = 3600
"""Seconds of lease that the host asks for: a laptop that slept for half an hour finds its address again."""


def make(
    config: HostConfig, memory: HostMemory, policies: HostPolicies, facts: Callable[[Network], NetworkFacts]
) -> HostControl:
    """Return the control of a host, with an anchor or with peers alone."""
    preferences, state = Preferences(config.order), memory.read_state()
    host = _with_anchor(config, memory.credentials, state) if config.anchor else AnchorlessHost(state, os.urandom)
    decide = Decide(
        preferences, policies.book.policies, describe=facts, local_time=local_time, questions=policies.questions
    )
    peers = PeerPaths(lambda networks: ranked(preferences, networks)) if config.rendezvous is not None else None
    return HostControl(host, decide, Portals(enabled=bool(config.portal.url)), peers)


def _with_anchor(config: HostConfig, credentials: Credentials, state: HostState) -> MobileHost:
    signalling = Preferences(config.signalling.networks or config.order)
    ports = {name: network.port for name, network in config.networks.items() if network.port is not None}
    sealed, transport = config.tunnels == "sealed", config.signalling.transport
    anchor = Endpoint(config.anchor, config.port if transport == "tls" else config.signalling.port)
    stream = None if transport == "udp" else transport.upper()
    settings = HostSettings(anchor, sealed, config.keep_alive, ports, stream)
    association = AssociationClient(
        AssociationSettings(
            user=config.user, domain=config.anchor, tid=config.tid, secret=credentials.secret,
            vipa=state.vipa, expires=EXPIRES, offer=Offer(aeads(), plain=not sealed),
        ),
        os.urandom,
    )  # fmt: skip
    return MobileHost(settings, association, state, os.urandom, lambda networks: ranked(signalling, networks))
