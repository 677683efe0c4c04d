"""What an anchor's name in a configuration stands for, asked of this machine's resolver."""

import ipaddress
import socket

from sojourn.errors import ConfigError


def resolved(address: str, file: str = "anchor.toml: address") -> list[str]:
    """Return the addresses that a name stands for; `file` says where it is written.

    Raises ConfigError where no server knows it.
    """
    try:
        return [str(ipaddress.ip_address(address))]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(address, None, proto=socket.IPPROTO_UDP)
    except OSError as error:
        fix = "Check the name servers in /etc/resolv.conf; or write the address itself."
        raise ConfigError(file, f"{address} cannot be resolved ({error.strerror})", fix) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
