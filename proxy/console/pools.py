"""SHOW POOLS, DATABASES, USERS, LISTS, MEM, and what there is none of: peers and a DNS cache.

Columns and their order are PgBouncer 1.25's; ours stand behind them.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from proxy.config import Policy
from proxy.console.joining import summed
from proxy.console.scene import CONSOLE, Scene, split_us
from proxy.console.sockets import server_state
from proxy.console.table import INT4, INT8, Row, columns
from proxy.pool import Scope
from proxy.relay import Client, Line, Pool, Server

_POOL_COUNTS = (
    "cl_active",
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_idle",
    "sv_used",
    "sv_tested",
    "sv_login",
    "maxwait",
    "maxwait_us",
)
POOL_COLUMNS = columns(
    dict.fromkeys((*_POOL_COUNTS, "paused"), INT4),
    "database",
    "user",
    *_POOL_COUNTS,
    "pool_mode",
    "load_balance_hosts",
    "cluster",
    "target",
    "paused",
)
DATABASE_COLUMNS = columns(
    dict.fromkeys(
        (
            "port",
            "pool_size",
            "min_pool_size",
            "reserve_pool_size",
            "server_lifetime",
            "max_connections",
            "current_connections",
            "max_client_connections",
            "current_client_connections",
            "paused",
            "disabled",
        ),
        INT4,
    ),
    "name",
    "host",
    "port",
    "database",
    "force_user",
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "server_lifetime",
    "pool_mode",
    "load_balance_hosts",
    "max_connections",
    "current_connections",
    "max_client_connections",
    "current_client_connections",
    "paused",
    "disabled",
    "cluster",
    "read_write_split",
)
USER_COLUMNS = columns(
    dict.fromkeys(
        (
            "max_user_connections",
            "current_connections",
            "max_user_client_connections",
            "current_client_connections",
        ),
        INT4,
    ),
    "name",
    "pool_size",
    "reserve_pool_size",
    "pool_mode",
    "max_user_connections",
    "current_connections",
    "max_user_client_connections",
    "current_client_connections",
)
join_pools = summed(
    POOL_COLUMNS,
    by=("database", "user"),
    add=[name for name in _POOL_COUNTS if not name.startswith("maxwait")],
    greatest=[("maxwait", "maxwait_us"), ("paused",)],
)
_CONNECTIONS = ("current_connections", "current_client_connections")
join_databases = summed(DATABASE_COLUMNS, by=("name",), add=_CONNECTIONS)
join_users = summed(USER_COLUMNS, by=("name",), add=_CONNECTIONS)
LIST_COLUMNS = columns({"items": INT4}, "list", "items")
MEM_COLUMNS = columns(
    dict.fromkeys(("size", "used", "free", "memtotal"), INT4),
    "name",
    "size",
    "used",
    "free",
    "memtotal",
)
join_mem = summed(MEM_COLUMNS, by=("name",), add=("used", "free", "memtotal"))
PEER_COLUMNS = columns(
    dict.fromkeys(("peer_id", "port", "pool_size"), INT4), "peer_id", "host", "port", "pool_size"
)
PEER_POOL_COLUMNS = columns(
    dict.fromkeys(
        (
            "peer_id",
            "cl_active_cancel_req",
            "cl_waiting_cancel_req",
            "sv_active_cancel",
            "sv_login",
        ),
        INT4,
    ),
    "peer_id",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active_cancel",
    "sv_login",
)
DNS_HOST_COLUMNS = columns({"ttl": INT8}, "hostname", "ttl", "addrs")
DNS_ZONE_COLUMNS = columns({"serial": INT8, "count": INT4}, "zonename", "serial", "count")


def show_pools(scene: Scene) -> Iterator[Row]:
    """SHOW POOLS: a row for each database and user, over all nodes that serve it."""
    apart: dict[tuple[str, str], list[Pool]] = {}
    for pool in scene.reservoir.pools_apart:
        apart.setdefault((pool.database, pool.user), []).append(pool)
    for policy, line in scene.reservoir.policies:
        pools = [*scene.reservoir.pools_of(line), *apart.get((line.database, line.user), ())]
        yield _pool_row(scene, policy, line, pools)
    if scene.visitors:
        yield [
            CONSOLE,
            CONSOLE,
            len(scene.visitors),
            *[0] * (len(_POOL_COUNTS) - 1),
            "statement",
            None,
            None,
            None,
            0,
        ]


def _pool_row(scene: Scene, policy: Policy, line: Line, pools: list[Pool]) -> Row:
    now_s = scene.clock()
    servers = [server for pool in pools for server in pool.servers]
    states = Counter(server_state(server, now_s) for server in servers)
    cancels = sum(server.cancels_in_flight for server in servers)
    waiting = scene.reservoir.waiting_of(line)
    seconds, micros = split_us(max([line.longest_wait_s, *(pool.longest_wait_s for pool in pools)]))
    return [
        line.database,
        line.user,
        line.clients - waiting,
        waiting,
        cancels,
        0,
        states["active"],
        cancels,
        states["being_canceled"],
        states["idle"],
        states["used"],
        states["tested"],
        sum(pool.connecting for pool in pools),
        seconds,
        micros,
        policy.pool_mode,
        None,
        policy.cluster,
        policy.target,
        int(line.held),
    ]


def known_databases(scene: Scene) -> list[str]:
    """Databases by name: those of the configuration, and those that `*` has let in."""
    named = [name for name in scene.config().databases if name != "*"]
    used = {line.database for line in scene.reservoir.lines}
    return [*named, *sorted(used - set(named))]


def is_database(scene: Scene, name: str) -> bool:
    """Whether clients may ask for it."""
    return bool({name, "*"} & set(scene.config().databases)) or name in known_databases(scene)


# What PgBouncer calls it.
_BALANCING = {"any": "round-robin", "first": "disable"}


def show_databases(scene: Scene) -> Iterator[Row]:
    """SHOW DATABASES: host and port of the primary, or all hosts where roles decide nothing."""
    config = scene.config()
    primaries = {view.name: view.primary_node for view in scene.views()}
    clients: Counter[str] = Counter()
    for line in scene.reservoir.lines:
        clients[line.database] += line.clients
    for name in known_databases(scene):
        # A user of this name would only have a say if there were one.
        policy = config.policy(name, "")
        if policy is None:
            continue
        entry = config.databases.get(name) or config.databases["*"]
        cluster = config.clusters[policy.cluster]
        primary = primaries.get(policy.cluster)
        host = None if primary is None else primary.address.host
        port = None if primary is None else primary.address.port
        if cluster.serve_from != "primary":
            host, port = ",".join(node.host for node in cluster.nodes), cluster.nodes[0].port
        yield [
            name,
            host,
            port,
            policy.dbname,
            policy.server_user,
            policy.pool_size,
            policy.min_pool_size,
            policy.reserve_pool_size,
            int(policy.server_lifetime),
            entry.pool_mode,
            _BALANCING.get(cluster.serve_from),
            policy.max_db_connections,
            scene.reservoir.server_count(Scope(database=name)),
            policy.max_db_client_connections,
            clients[name],
            int(scene.reservoir.is_paused(name)),
            int(scene.reservoir.is_disabled(name)),
            policy.cluster,
            "yes" if entry.read_write_split else "no",
        ]
    yield [
        CONSOLE,
        None,
        config.listen.port,
        CONSOLE,
        CONSOLE,
        2,
        0,
        0,
        int(config.limits.server_lifetime),
        "statement",
        None,
        0,
        0,
        0,
        len(scene.visitors),
        0,
        0,
        None,
        "no",
    ]


def show_users(scene: Scene) -> Iterator[Row]:
    """SHOW USERS: those that are configured, and those who have come in."""
    config = scene.config()
    clients: Counter[str] = Counter()
    servers: Counter[str] = Counter()
    for line in scene.reservoir.lines:
        clients[line.user] += line.clients
        servers[line.user] += sum(
            len(pool.servers) + pool.connecting for pool in scene.reservoir.pools_of(line)
        )
    for pool in scene.reservoir.pools_apart:
        servers[pool.user] += len(pool.servers)
    for name in sorted({*config.auth.users, *clients}):
        user = config.auth.users.get(name)
        limits = config.limits
        yield [
            name,
            _own(user, "pool_size"),
            _own(user, "reserve_pool_size"),
            _own(user, "pool_mode"),
            int(_own(user, "max_user_connections") or limits.max_user_connections),
            servers[name],
            int(_own(user, "max_user_client_connections") or limits.max_user_client_connections),
            clients[name],
        ]


def _own(user: object, key: str) -> str | None:
    """What is set for this user, None when nothing is."""
    value = None if user is None else getattr(user, key)
    return None if value is None else str(value)


_ListItems = tuple[str, int | frozenset[str]]


def read_lists(scene: Scene) -> Iterator[_ListItems]:
    """What SHOW LISTS counts: names where several processes may have the same, else a number."""
    users = {*scene.config().auth.users, *(line.user for line in scene.reservoir.lines)}
    pools = {f"{line.database}\0{line.user}" for line in scene.reservoir.lines}
    yield from (
        ("databases", frozenset({*known_databases(scene), CONSOLE})),
        ("users", frozenset(users)),
        ("peers", 0),
        ("pools", frozenset({*pools, CONSOLE} if scene.visitors else pools)),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", len(scene.relay.clients) + len(scene.visitors)),
        ("login_clients", scene.strangers()),
        ("free_servers", 0),
        ("used_servers", len(scene.reservoir.servers())),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    )


def show_lists(tables: Sequence[Iterable[_ListItems]]) -> Iterator[Row]:
    """SHOW LISTS."""
    for named in zip(*tables, strict=True):
        name = named[0][0]
        sets = [items for _, items in named if isinstance(items, frozenset)]
        numbers = [items for _, items in named if isinstance(items, int)]
        yield name, len(frozenset().union(*sets)) + sum(numbers)


def show_mem(scene: Scene) -> Iterator[Row]:
    """SHOW MEM: objects of the data plane, and the whole process at the end."""
    counted = (
        ("client_cache", Client, len(scene.relay.clients) + len(scene.visitors)),
        ("server_cache", Server, len(scene.reservoir.servers())),
        ("pool_cache", Pool, len(scene.reservoir.pools)),
        ("line_cache", Line, len(scene.reservoir.lines)),
    )
    for name, kind, used in counted:
        size = kind.__basicsize__
        yield [name, size, used, 0, size * used]
    yield ["statement_cache", 0, scene.relay.statement_count, 0, 0]
    page = os.sysconf("SC_PAGESIZE")
    resident = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    yield ["process", page, resident, 0, page * resident]


def show_nothing(_scene: Scene) -> Iterator[Row]:
    """There are no peers, and names are resolved anew each time a node is connected to."""
    return iter(())
