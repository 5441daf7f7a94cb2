"""On which terms clients come in."""

import ssl
from dataclasses import dataclass

from proxy.auth import Roster
from proxy.client.address import IpNetwork


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """On which terms clients come in.

    method: as in `auth.method`. tls: the context clients see, None for no TLS.
    tls_required: refuse those without it. login_timeout_s: for the whole login, 0 is no limit.
    balancers: whose connections begin with a PROXY header.
    """

    method: str
    roster: Roster
    max_clients: int
    login_timeout_s: float
    tls: ssl.SSLContext | None
    tls_required: bool
    balancers: tuple[IpNetwork, ...] = ()
