"""Where something listens: a host and a port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SHAPE = "host:port, such as 127.0.0.1:7700, localhost:7700 or [::1]:7700"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP endpoint.

    `host` is an IPv4 address, an IPv6 address without brackets, or a host
    name; `port` is 0 to 65,535, where 0 asks the system for a free one.
    `str()` gives it back with the brackets that IPv6 needs.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it.

        Of names, `localhost` alone counts (RFC 6761): what another name
        resolves to may change after the check.
        """
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)


def parse_endpoint(text: str) -> Endpoint:
    """Reads `host:port`; IPv6 hosts stand in brackets.

    Raises ValueError, saying what is allowed. Unix sockets are refused.
    """
    text = text.strip()
    if text.startswith(("unix:", "/", ".")):
        raise ValueError(f"unix sockets are not supported; give {_SHAPE}")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"must be {_SHAPE}, with a port from 0 to 65535")
    if not host:
        raise ValueError("names no host; give 127.0.0.1 for this machine or 0.0.0.0 for every IPv4 interface")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Endpoint(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError(f"has a bad IPv6 address in brackets; must be {_SHAPE}") from None
    if ":" in host:
        raise ValueError(f"puts an IPv6 address without brackets; must be {_SHAPE}")
    _check_host(host)
    return Endpoint(host, int(port))


def _check_host(host: str) -> None:
    labels = host.rstrip(".").split(".")
    if all(label.isdigit() for label in labels):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"has a bad IPv4 address; must be {_SHAPE}") from None
    elif len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"has a bad host name; must be {_SHAPE}")
