"""Which networks the user has put aside: the kernel has them, control does not get to know of them."""

from pathlib import Path

import msgspec
import structlog

from sojourn.control.network_use import Excluded, NetworkUse
from sojourn.errors import ConfigError
from sojourn.model import Network
from sojourn.store import config_dir
from sojourn.upmt.events_network import AnyNetworkFact, NetworkDown

_log = structlog.get_logger(__name__)


class PutAside:
    """By name. What is excluded is written to `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._use: dict[str, NetworkUse] = dict.fromkeys(_stored(file), NetworkUse.EXCLUDED)
        self._there: dict[str, Network] = {}
        """Those of them that the kernel has."""

    def hides(self, fact: AnyNetworkFact) -> bool:
        """Say whether control is not to be told of a fact; note it."""
        name = fact.name if isinstance(fact, NetworkDown) else fact.network.name
        if name not in self._use:
            return False
        if isinstance(fact, NetworkDown):
            self._there.pop(name, None)
        else:
            self._there[name] = fact.network
        return True

    def use_of(self, name: str) -> NetworkUse:
        """Return what the user wants a network to be."""
        return self._use.get(name, NetworkUse.ON)

    def rows(self) -> list[tuple[Network, NetworkUse]]:
        """Return the networks that are there, and not used."""
        return [(network, self._use[name]) for name, network in self._there.items()]

    def put(self, name: str, use: NetworkUse, network: Network | None) -> None:
        """Put a network aside."""
        self._use[name] = use
        if network is not None:
            self._there[name] = network
        self._write()

    def take_back(self, name: str) -> Network | None:
        """Use a network again; return it if it is there."""
        self._use.pop(name, None)
        self._write()
        return self._there.pop(name, None)

    def _write(self) -> None:
        excluded = tuple(name for name, use in self._use.items() if use is NetworkUse.EXCLUDED)
        if excluded == _stored(self._file):
            return
        try:
            config_dir.write(self._file, msgspec.json.encode(Excluded(excluded)))
        except ConfigError as error:  # it holds until the daemon ends
            _log.error("not stored", error=str(error))


def _stored(file: Path) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Excluded).networks
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("excluded networks of before are not known", file=str(file), why=str(error))
        return ()
