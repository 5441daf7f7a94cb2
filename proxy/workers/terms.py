"""From the configuration to what each room is given. Pure, but for `open_log`.

Called by the worker at its start and at a reload, and by the supervisor for what holds for all.
"""

import ipaddress
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from proxy.auth import (
    Admission,
    Roster,
)
from proxy.client import Directory, DoorTerms, Habits, Inquiry, Judges
from proxy.cluster import (
    ClusterView,
    Monitor,
    NodeAddress,
    NodeView,
    ProbeLogin,
)
from proxy.config import (
    DEFAULT_QUERY,
    Cluster,
    Config,
    Log,
    Patroni,
    Secret,
    source_of,
)
from proxy.failover import (
    SERVICE_ACCOUNT,
    EtcdLease,
    EtcdTerms,
    KubernetesLease,
    KubernetesTerms,
    Lease,
    Member,
    OnlyProxy,
    PatroniTerms,
    SiblingsLease,
    Tell,
)
from proxy.failover import Rules as FailoverRules
from proxy.failover import Terms as FailoverTerms
from proxy.server import AskedPassword, Passwords, Place
from proxy.tcp import TcpOptions
from proxy.telemetry import (
    configure,
)
from proxy.workers.encryption import Contexts, read_offer

if TYPE_CHECKING:
    from proxy.marks import Marks, Positions


def open_log(log: Log) -> None:
    """Send the log where it belongs. Raises OSError when its file cannot be opened."""
    configure(log.level, log.format, file=log.file, is_quiet=not log.stderr, silent=log.silent)


def room_of(node: NodeView, cluster: Cluster) -> int:
    """Most server connections to a node; 0 is no limit, or that none is known yet."""
    declared = next((each for each in cluster.nodes if each.name == node.name), None)
    if declared is not None and declared.max_connections is not None:
        return declared.max_connections
    common = node.common_connections
    return 0 if common is None else max(1, common - cluster.spare_connections)


def read_roster(config: Config) -> Roster:
    """The users of the configuration; those of its user list are among them."""
    texts = {
        name: None if user.password is None else str(user.password)
        for name, user in config.auth.users.items()
    }
    old = {
        name: str(user.old_password)
        for name, user in config.auth.users.items()
        if user.old_password is not None
    }
    return Roster.from_texts(texts, old)


def read_inquiry(config: Config, passwords: Passwords) -> Inquiry | None:
    """How users are looked up in the databases, or None when they are not."""
    auth = config.auth
    if not config.has_query:
        return None
    logins, queries = {}, {}
    for name, cluster in config.clusters.items():
        if not auth.has_query(cluster):
            continue
        user, password = auth.query_login(cluster)
        queries[name] = cluster.query or auth.query or DEFAULT_QUERY
        logins[name] = ProbeLogin(
            user,
            password or ask_password(cluster, user, passwords) or "",
            cluster.query_database or auth.query_database,
            cluster.server.tls,
        )
    return Inquiry(queries, logins, auth.query_ttl)


def read_terms(
    config: Config, roster: Roster, admission: Admission, directory: Directory | None
) -> DoorTerms:
    """On which terms clients come in."""
    tls = config.listen.tls
    return DoorTerms(
        admission=admission,
        roster=roster,
        max_clients=config.listen.max_client_conn,
        login_timeout_s=config.limits.client_login_timeout,
        tls=read_offer(config),
        tls_required=tls.mode in ("require", "verify-ca", "verify-full"),
        balancers=tuple(map(ipaddress.ip_network, config.listen.proxy_protocol_from)),
        judges=Judges(config.auth, time.monotonic),
        directory=directory,
        cluster_of=config.cluster_of,
        max_strangers=config.listen.most_strangers,
        failure_delay_s=config.auth.failure_delay,
        habits=Habits(
            frozenset(map(str.lower, config.listen.ignore_startup_parameters)),
            config.listen.application_name_add_host,
        ),
    )


def read_tcp(config: Config) -> TcpOptions:
    """What TCP connections to clients and servers are opened with."""
    listen = config.listen
    return TcpOptions(
        listen.tcp_keepalive,
        listen.tcp_keepidle,
        listen.tcp_keepintvl,
        listen.tcp_keepcnt,
        listen.tcp_user_timeout,
    )


def read_places(config: Config, contexts: Contexts) -> Mapping[str, Callable[[NodeAddress], Place]]:
    """How to make places of nodes, by cluster; those of one share a context."""
    tcp = read_tcp(config)

    def maker(cluster: Cluster) -> Callable[[NodeAddress], Place]:
        tls = cluster.server.tls
        return lambda address: Place(address.host, address.port, tls, contexts[tls], tcp)

    return {name: maker(cluster) for name, cluster in config.clusters.items()}


def ask_password(cluster: Cluster, user: str, passwords: Passwords) -> AskedPassword | None:
    """Where the password of a node's user is asked for; None where it is known beforehand."""
    source = source_of(cluster.server)
    if user != cluster.server.user or source is None or source.file is not None:
        return None
    return AskedPassword(passwords, source)


def probe_login(
    cluster: Cluster, whom: tuple[str, Secret | None], dbname: str, passwords: Passwords
) -> ProbeLogin:
    """How the proxy's own questions log in to a database of a cluster. whom: user and password."""
    user, password = whom
    return ProbeLogin(
        user,
        str(password or "") or ask_password(cluster, user, passwords) or "",
        dbname,
        cluster.server.tls,
    )


def new_monitor(
    name: str,
    cluster: Cluster,
    login: ProbeLogin,
    *,
    publish: Callable[[ClusterView], None],
    observe: Callable[[ClusterView], None],
    known: ClusterView | None,
) -> Monitor:
    """The monitor of one cluster. login: how it asks. known: what the one before it saw last."""
    nodes = [
        NodeAddress(
            node.name,
            node.host,
            node.port,
            node.weight,
            node.zone,
            node.roles,
            node.priority,
            (node.replication_host or node.host, node.replication_port or node.port),
        )
        for node in cluster.nodes
    ]
    return Monitor(
        name,
        nodes,
        login,
        interval_s=cluster.monitor.interval,
        timeout_s=cluster.monitor.timeout,
        publish=publish,
        observe=observe,
        known=known,
    )


def read_lease(name: str, cluster: Cluster, member: Member, tell: Tell) -> Lease:
    """Where this process and others agree on who promotes in a cluster.

    member: this process. tell: asks the others that serve as the same proxy.
    """
    coordinator = cluster.failover.coordinator
    etcd, kubernetes = coordinator.etcd, coordinator.kubernetes
    if kubernetes is not None:
        pod = KubernetesTerms(
            kubernetes.namespace,
            kubernetes.lease,
            kubernetes.account or SERVICE_ACCOUNT,
            ttl_s=coordinator.ttl,
        )
        return KubernetesLease(pod, name, member)
    if etcd is None and member.processes > 1:
        return SiblingsLease([(node.host, node.port) for node in cluster.nodes], member, tell)
    if etcd is None:
        return OnlyProxy()
    terms = EtcdTerms(
        endpoints=etcd.endpoints,
        prefix=etcd.prefix,
        user=etcd.user,
        password=None if etcd.password is None else str(etcd.password),
        ca=etcd.ca,
        cert=etcd.cert,
        key=etcd.key,
        ttl_s=coordinator.ttl,
    )
    return EtcdLease(terms, name, member)


def open_marks(
    config: Config, positions: "Positions", clock: Callable[[], float]
) -> "Marks | None":
    """What tells other proxies of writes under keys; None where there are none."""
    redis = config.redis
    if redis is None:
        return None
    # An optional part: the configuration has looked whether it is there.
    marks = import_module("proxy.marks")
    terms = marks.RedisTerms(
        str(redis.url),
        None if redis.password is None else str(redis.password),
        redis.ca,
        redis.prefix,
        redis.ttl,
    )
    opened: Marks = marks.Marks(terms, positions, clock)
    return opened


def read_failover(cluster: Cluster) -> FailoverTerms:
    """What is to be done when the primary of a cluster is gone."""
    asked = cluster.failover
    return FailoverTerms(
        promotes=asked.mode == "promote",
        rules=FailoverRules(
            after_s=asked.after,
            starting_after_s=max(asked.after, asked.starting_after),
            min_interval_s=asked.min_interval,
            max_loss_bytes=asked.max_loss_bytes,
        ),
        proxies=asked.proxies,
        dry_run=asked.dry_run,
        fence=asked.fence,
        drain_timeout_s=asked.drain_timeout,
        on_promote=asked.on_promote,
        on_demote=asked.on_demote,
        hook_timeout_s=asked.hook_timeout,
        patroni=_read_patroni(asked.patroni) if asked.mode == "follow" else PatroniTerms(),
    )


def _read_patroni(asked: Patroni) -> PatroniTerms:
    password = None if asked.password is None else str(asked.password)
    return PatroniTerms(asked.urls, asked.ca, asked.cert, asked.key, asked.user, password)
