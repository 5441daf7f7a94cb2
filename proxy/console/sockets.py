"""SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS: one row for each connection.

Columns and their order are PgBouncer 1.25's; ours stand behind them.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.client import Startup
from proxy.console.scene import Scene, Visitor, split_us
from proxy.console.table import INT4, INT8, Row, columns
from proxy.relay import Client, Link, Server
from proxy.unix import peer_of

_NUMBERS = {
    "port": INT4,
    "local_port": INT4,
    "wait": INT4,
    "wait_us": INT4,
    "close_needed": INT4,
    "remote_pid": INT4,
    "prepared_statements": INT4,
    "id": INT4,
    "recv_pos": INT4,
    "pkt_pos": INT4,
    "pkt_remain": INT4,
    "send_pos": INT4,
    "send_remain": INT4,
    "pkt_avail": INT4,
    "send_avail": INT4,
    "query_count": INT8,
}
_STANDARD = (
    "type",
    "user",
    "database",
    "replication",
    "state",
    "addr",
    "port",
    "local_addr",
    "local_port",
    "connect_time",
    "request_time",
    "wait",
    "wait_us",
    "close_needed",
    "ptr",
    "link",
    "remote_pid",
    "tls",
    "application_name",
    "prepared_statements",
    "id",
)
_BUFFERS = (
    "recv_pos",
    "pkt_pos",
    "pkt_remain",
    "send_pos",
    "send_remain",
    "pkt_avail",
    "send_avail",
)
CLIENT_COLUMNS = columns(_NUMBERS, *_STANDARD, "node", "pinned")
SERVER_COLUMNS = columns(_NUMBERS, *_STANDARD, "cluster", "node", "role")
SOCKET_COLUMNS = columns(_NUMBERS, *_STANDARD, *_BUFFERS)


@dataclass(frozen=True, slots=True)
class _Ends:
    """Both ends of a connection. remote_pid: of the other end of a Unix socket, else 0."""

    addr: str
    port: int
    local_addr: str
    local_port: int
    remote_pid: int


def _ends(link: Link) -> _Ends:
    """Ask the kernel for our end; a PROXY header may have said who is at the other."""
    local_addr, local_port, pid = "", 0, 0
    if link.fileno >= 0:
        with socket.socket(fileno=os.dup(link.fileno)) as end:
            if end.family == socket.AF_UNIX:
                local_addr = "unix"
                pid, _ = peer_of(end)
            else:
                local_addr, local_port = end.getsockname()[:2]
    addr, port = _split_address(link.address)
    return _Ends(addr, port, local_addr, local_port, pid)


def _split_address(address: str) -> tuple[str, int]:
    """`127.0.0.1:5555`, `[::1]:5555`, `unix:`, or a folder with a socket and its port."""
    host, _, port = address.rpartition(":")
    is_path = host.startswith("/")
    return "unix" if is_path else host.strip("[]"), int(port) if port.isdigit() else 0


def _pointer(scene: Scene, link: Link | None) -> str:
    """What stands for PgBouncer's address of an object: unique, and nothing's address."""
    return "" if link is None else f"0x{scene.number_of(link):x}"


def _tls_of(startup: Startup) -> str:
    return "" if startup.tls is None else f"{startup.tls.version}/{startup.tls.cipher}"


def replication_of(startup: Startup) -> str:
    """none, logical or physical."""
    if not startup.wants_replication:
        return "none"
    return "physical" if startup.replicates_physically else "logical"


def client_state(client: Client) -> str:
    """waiting, active or idle."""
    return "waiting" if client.is_waiting else "active" if client.has_server else "idle"


def server_state(server: Server, now_s: float) -> str:
    """In PgBouncer's words: `used` is one that will be asked whether it is still there."""
    if server.asked_s or server.resetting:
        return "tested"
    if server.is_active:
        return "active"
    if server.cancels_in_flight:
        return "being_canceled"
    if server.is_idle:
        return "used" if now_s - server.idle_since_s > server.pool.fresh_s else "idle"
    return "active"


def _client_row(scene: Scene, client: Client, state: str) -> list[str | int | None]:
    ends = _ends(client)
    startup: Startup = client.login
    wait_s = scene.clock() - client.waits_since_s if client.is_waiting else 0.0
    seconds, micros = split_us(wait_s)
    return [
        "C",
        startup.user,
        startup.database,
        replication_of(startup),
        state,
        ends.addr,
        ends.port,
        ends.local_addr,
        ends.local_port,
        scene.at(client.since_s),
        scene.at(client.began_s or client.ready_s),
        seconds,
        micros,
        0,
        _pointer(scene, client),
        _pointer(scene, client.server),
        ends.remote_pid,
        _tls_of(startup),
        client.settings.get("application_name", ""),
        client.statement_count,
        scene.number_of(client),
    ]


def _visitor_row(scene: Scene, visitor: Visitor, state: str) -> list[str | int | None]:
    link, startup = visitor.link, visitor.startup
    ends = _ends(link)
    return [
        "C",
        startup.user,
        startup.database,
        "none",
        state,
        ends.addr,
        ends.port,
        ends.local_addr,
        ends.local_port,
        scene.at(link.since_s),
        scene.at(visitor.request_s or link.since_s),
        0,
        0,
        0,
        _pointer(scene, link),
        "",
        ends.remote_pid,
        _tls_of(startup),
        startup.parameters.get("application_name", ""),
        0,
        scene.number_of(link),
    ]


def _server_row(scene: Scene, server: Server, state: str) -> list[str | int | None]:
    ends = _ends(server)
    pool, client = server.pool, server.client
    policy = pool.owner.policy
    is_replicating = client is not None and client.login.wants_replication
    request_s = server.idle_since_s if client is None else client.began_s or client.ready_s
    application_name = "" if client is None else client.settings.get("application_name", "")
    return [
        "S",
        policy.server_user or pool.user,
        pool.database,
        replication_of(client.login) if is_replicating and client is not None else "none",
        state,
        ends.addr,
        ends.port,
        ends.local_addr,
        ends.local_port,
        scene.at(server.since_s),
        scene.at(request_s),
        0,
        0,
        int(server.retiring),
        _pointer(scene, server),
        _pointer(scene, client),
        ends.remote_pid or server.pid,
        server.tls_version or "",
        application_name,
        server.prepared_count,
        scene.number_of(server),
    ]


def _clients(scene: Scene) -> list[Client]:
    return list(scene.relay.clients.values())


def show_clients(scene: Scene) -> Iterator[Row]:
    """SHOW CLIENTS."""
    for client in _clients(scene):
        if not client.is_closed:
            node = None if client.server is None else client.server.pool.node
            state = client_state(client)
            yield [*_client_row(scene, client, state), node, "yes" if client.is_pinned else "no"]
    for visitor in list(scene.visitors):
        if not visitor.link.is_closed:
            yield [*_visitor_row(scene, visitor, "active"), None, "no"]


def show_servers(scene: Scene) -> Iterator[Row]:
    """SHOW SERVERS."""
    for server in scene.reservoir.servers():
        if not server.is_closed:
            pool = server.pool
            state = server_state(server, scene.clock())
            yield [*_server_row(scene, server, state), pool.cluster, pool.node, pool.role]


def show_sockets(scene: Scene) -> Iterator[Row]:
    """SHOW SOCKETS."""
    return _sockets(scene, only_busy=False)


def show_active_sockets(scene: Scene) -> Iterator[Row]:
    """SHOW ACTIVE_SOCKETS: those with bytes that have not been passed on."""
    return _sockets(scene, only_busy=True)


# PgBouncer's names of a client's states among sockets; an idle one is active there.
_CLIENT_SOCKETS = {"active": "cl_active", "idle": "cl_active", "waiting": "cl_waiting"}


def _sockets(scene: Scene, *, only_busy: bool) -> Iterator[Row]:
    def is_shown(link: Link) -> bool:
        return not link.is_closed and not (only_busy and not _is_busy(link))

    for client in _clients(scene):
        if is_shown(client):
            state = _CLIENT_SOCKETS[client_state(client)]
            yield [*_client_row(scene, client, state), *_buffers(client)]
    for visitor in list(scene.visitors):
        if is_shown(visitor.link):
            yield [*_visitor_row(scene, visitor, "cl_active"), *_buffers(visitor.link)]
    for server in scene.reservoir.servers():
        if is_shown(server):
            state = f"sv_{server_state(server, scene.clock())}"
            yield [*_server_row(scene, server, state), *_buffers(server)]


def _is_busy(link: Link) -> bool:
    return bool(link.held_bytes or link.awaited_bytes or link.unsent_bytes)


def _buffers(link: Link) -> list[int]:
    held, unsent = link.held_bytes, link.unsent_bytes
    return [held, 0, link.awaited_bytes, 0, unsent, held, unsent]
