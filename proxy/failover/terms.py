"""What a cluster's failover is given: the operator's wishes, and hands on the proxy's traffic."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from proxy.cluster import ClusterView
from proxy.failover.decision import Rules


@dataclass(frozen=True, slots=True)
class PatroniTerms:
    """How it is asked.

    urls: of its REST API on each node, tried in turn; () where it is not asked. ca: authorities
    that sign its certificates, None for the system's. cert, key: shown to it. user: to log in as.
    """

    urls: tuple[str, ...] = ()
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator has asked for; see `failover` in the configuration.

    promotes: whether this proxy promotes at all. proxies: how many there are that may. patroni:
    whom to ask, where that is what does.
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
    patroni: PatroniTerms = field(default_factory=PatroniTerms)


@dataclass(slots=True)
class Hands:
    """What is done to the proxy's own traffic.

    serve: use this picture from now on. cut: end all server connections to a node, with a reason.
    count_servers: how many there are, also those that go when they are free.
    """

    serve: Callable[[ClusterView], None]
    cut: Callable[[str, str, str], None]
    count_servers: Callable[[str, str], int]
