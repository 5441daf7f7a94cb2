"""On which terms clients come in."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.auth import Admission, Roster
from proxy.client.address import IpNetwork
from proxy.client.directory import Directory
from proxy.client.judged import Judges
from proxy.tls import Offer, Renewed


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """On which terms clients come in.

    admission: by which method who may. roster: the users that are listed.
    judges: who is asked where logins are judged elsewhere.
    directory: where users that the roster does not have are looked up, by cluster, or None.
    cluster_of: the cluster a database of this name is in.
    tls: what clients are offered, None for no TLS.
    tls_required: refuse those without it. login_timeout_s: for the whole login, 0 is no limit.
    balancers: whose connections begin with a PROXY header.
    max_strangers: connections whose clients have not yet proved who they are.
    failure_delay_s: longest delay of a failed login's refusal, 0 is none.
    """

    admission: Admission
    roster: Roster
    max_clients: int
    login_timeout_s: float
    tls: Renewed[Offer] | None
    tls_required: bool
    balancers: tuple[IpNetwork, ...]
    max_strangers: int
    failure_delay_s: float
    judges: Judges
    directory: Directory | None = None
    cluster_of: Callable[[str], str] = str
