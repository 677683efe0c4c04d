"""Access networks as netlink tells them: links, addresses and routes in, facts out."""

from collections.abc import AsyncIterator, Container, Mapping

from sojourn.model import Network
from sojourn.upmt.events_network import AnyNetworkFact


class NetworkWatcher:
    """`async with NetworkWatcher(...) as watcher: async for fact in watcher: ...`.

    The first facts are a `NetworkUp` for each network that is there already.
    """

    def __init__(self, *, ignore: Container[str] = (), names: Mapping[str, str] | None = None) -> None:
        """`ignore`: interfaces that are never networks; `names`: interface -> name (default: the same)."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks that are up, by name."""
        raise NotImplementedError

    async def __aenter__(self) -> "NetworkWatcher":
        raise NotImplementedError

    async def __aexit__(self, *error: object) -> None:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[AnyNetworkFact]:
        raise NotImplementedError
