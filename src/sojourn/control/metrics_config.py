"""`[metrics]` of host.toml, anchor.toml and rendezvous.toml: where Prometheus finds the figures. Off by default."""

import re
from typing import Annotated

from msgspec import Meta, Struct

from sojourn.model import Endpoint

PLACE = r"^(\[[0-9a-fA-F:]+\]|[0-9]{1,3}(\.[0-9]{1,3}){3}):[0-9]{1,5}$"


class MetricsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[metrics]`."""

    listen: Annotated[str, Meta(pattern=PLACE)] | None = None
    """"127.0.0.1:9464" or "[::1]:9464"; None: there is no such port. Whoever reaches it may read the figures."""
    names: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...], Meta(max_length=16)] = ()
    """Names by which a scraper may call this machine, beside addresses and "localhost": a web page whose name was
    bent to this address (DNS rebinding) is refused."""

    @property
    def endpoint(self) -> Endpoint | None:
        """`listen`, parsed (its form was checked when the file was read)."""
        found = re.fullmatch(r"\[?([^\]]*)\]?:([0-9]+)", self.listen or "")
        return Endpoint(found[1], int(found[2])) if found is not None else None
