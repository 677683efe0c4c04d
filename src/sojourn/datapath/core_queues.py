"""The queues of the TUN beyond the first, one for each further thread that sends (datapath/core/worker.h).

The kernel keeps a flow on one queue. A successor gets all that its predecessor had: what waits in a queue that nobody
reads is lost, so it reads even those that it has no thread of its own for.
"""

import os
from typing import Final

from sojourn.datapath._core import Core
from sojourn.datapath.features import Features
from sojourn.linux.descriptors import Descriptors, queue_name
from sojourn.linux.threads import MOST
from sojourn.linux.tun import Tun


class Queues:
    """What of the device is open beside the engine's own descriptor."""

    def __init__(self, core: Core, descriptors: Descriptors, features: Features, threads: int) -> None:
        self._core: Final = core
        self._descriptors: Final = descriptors
        self._features: Final = features
        self._threads: Final = threads
        self.open: dict[str, Tun] = {}
        """By the name of the descriptor."""

    def add(self, first: Tun) -> None:
        """Let the core read those that a predecessor had, and as many more as there are threads."""
        for number in range(1, MOST):
            name = queue_name(first.name, number)
            fd = self._descriptors.take(name)
            try:
                queue = self._attach(first, fd, number)
            except OSError:  # the device was made anew since, or has no more: the others serve
                self._descriptors.release(name)
                if fd is not None:
                    os.close(fd)
                continue
            if queue is None:
                continue
            if fd is None:
                self._descriptors.hold(name, queue.fd)
            self.open[name] = queue
            self._core.watch_tun(queue.fd, queue.uso)

    def _attach(self, first: Tun, fd: int | None, number: int) -> Tun | None:
        features = self._features
        if fd is not None:
            return Tun(fd, tso=features.tso, uso=features.uso)
        if number >= self._threads or not first.multi_queue:
            return None
        return Tun.open(first.name, tso=features.tso, uso=features.uso, more=True)

    def drop(self) -> None:
        """Give all up."""
        for name, queue in self.open.items():
            self._core.unwatch(queue.fd)
            self._descriptors.release(name)
            queue.close()
        self.open.clear()

    def close(self) -> None:
        """Close all when the core has ended. What others hold of them stays."""
        for queue in self.open.values():
            queue.close()
        self.open.clear()
