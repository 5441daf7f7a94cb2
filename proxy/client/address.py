"""What `Client.address` says, for rules and limits that go by addresses."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def ip_of(address: str) -> IpAddress | None:
    """The IP of `127.0.0.1:5555` or `[::1]:5555`; None for a Unix socket.

    An IPv4 address in IPv6's clothes, as a PROXY header may have it, is an IPv4 address: what is
    said about it must hold.
    """
    host, _, _ = address.rpartition(":")
    return None if host == "unix" else _read_host(host)


# Clients come from few machines, and reading an address costs as much as choosing a rule by it.
@lru_cache(maxsize=1024)
def _read_host(host: str) -> IpAddress:
    ip = ipaddress.ip_address(host.strip("[]"))
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def is_among(address: str, networks: Iterable[IpNetwork]) -> bool:
    """Whether the address belongs to one of the networks; a Unix socket belongs to none."""
    ip = ip_of(address)
    return ip is not None and any(ip in network for network in networks)
