"""Who is to be the primary, and how does it become so? Promotion, switchover, fencing.

Five nouns. A `Decision` (pure) is what follows from a picture of the cluster, with its sentence of
reason. An order is SQL that tells one node something. `Failover` is the driver of one cluster: it
stands between its monitor and those who use the picture, holds them while roles change, and carries
decisions out. An `Event` is what was decided, when and why. A lease decides which of several
proxies may promote.
"""

from proxy.failover.decision import Decision, Rules, decide
from proxy.failover.driver import Failover
from proxy.failover.etcd import EtcdLease, EtcdTerms
from proxy.failover.events import Event, EventLog
from proxy.failover.kubernetes import SERVICE_ACCOUNT, KubernetesLease, KubernetesTerms
from proxy.failover.lease import Lease, Member, OnlyProxy
from proxy.failover.siblings import SiblingsLease, Tell
from proxy.failover.terms import Hands, PatroniTerms, Terms

__all__ = [
    "SERVICE_ACCOUNT",
    "Decision",
    "EtcdLease",
    "EtcdTerms",
    "Event",
    "EventLog",
    "Failover",
    "Hands",
    "KubernetesLease",
    "KubernetesTerms",
    "Lease",
    "Member",
    "OnlyProxy",
    "PatroniTerms",
    "Rules",
    "SiblingsLease",
    "Tell",
    "Terms",
    "decide",
]
