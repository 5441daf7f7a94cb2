"""What a cluster's failover is given: the operator's wishes, and hands on the proxy's traffic."""

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.cluster import ClusterView
from proxy.failover.decision import Rules


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator has asked for; see `failover` in the configuration.

    promotes: whether this proxy promotes at all. proxies: how many there are that may. patroni:
    URLs of those that do, where they are.
    """

    promotes: bool = False
    rules: Rules = field(default_factory=Rules)
    proxies: int = 1
    dry_run: bool = False
    fence: bool = False
    drain_timeout_s: float = 10.0
    on_promote: tuple[str, ...] = ()
    on_demote: tuple[str, ...] = ()
    hook_timeout_s: float = 60.0
    patroni: tuple[str, ...] = ()


@dataclass(slots=True)
class Hands:
    """What is done to the proxy's own traffic.

    serve: use this picture from now on. cut: end all server connections to a node, with a reason.
    count_servers: how many there are, also those that go when they are free.
    """

    serve: Callable[[ClusterView], None]
    cut: Callable[[str, str, str], None]
    count_servers: Callable[[str, str], int]
