"""Servers and clients of a relay whose far ends are in our hands."""

import asyncio
import socket
from types import SimpleNamespace

from proxy.relay import TRANSACTION_MODE, Client, Line, Pool, Relay, Server
from proxy.session import Settings
from tests.fuzz.both_ends import SessionControl, read_socket, whole_messages


class FarServer:
    """The server's end of a connection in a pool."""

    def __init__(self, relay: Relay, pool: Pool, settings: Settings, pid: int) -> None:
        near, self.socket = socket.socketpair()
        near.setblocking(False)
        self.socket.setblocking(False)
        self.link: Server = relay.dial(near.detach(), "server")
        self.link.enter(pool, pid, b"0000", settings)

    def hears(self) -> list[str]:
        """The texts of the queries that have come."""
        return [
            body.rstrip(b"\0").decode()
            for kind, body in whole_messages(read_socket(self.socket))
            if kind == b"Q"
        ]


class FarClient:
    """The client's end of a connection that has logged in."""

    def __init__(self, relay: Relay, line: Line, settings: Settings, pid: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = socket.create_connection(listener.getsockname())
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = relay.accept(listener.fileno())
        assert link is not None
        self.link: Client = link
        link.enter(line, settings, pid, b"1111")


def line_of(role: str, most: int) -> tuple[Line, Pool]:
    """A line in transaction mode, and the pool that serves it."""
    line = Line("d", "u", role, [1.0])
    line.mode = TRANSACTION_MODE
    pool = Pool("c", role, role, "d", "u", most, 10)
    pool.owner = SimpleNamespace(policy=SimpleNamespace(server_user=None))
    line.serve_from([pool])
    return line, pool


class FarEnds:
    """A relay with a control, and as many clients as are asked for, whose far ends are sockets."""

    def __init__(self, control: SessionControl) -> None:
        self.loop = asyncio.new_event_loop()
        self.relay = Relay(self.loop, control, [1.0])
        self.settings = control.settings_of_login()
        self.ends: list[socket.socket] = []

    def client_of(self, line: Line) -> tuple[Client, socket.socket]:
        """One more that has logged in."""
        end = FarClient(self.relay, line, self.settings, 101 + len(self.ends))
        self.ends.append(end.socket)
        return end.link, end.socket

    def server_of(self, pool: Pool, pid: int = 1) -> FarServer:
        """A connection to a server, in this pool."""
        server = FarServer(self.relay, pool, self.settings, pid)
        self.ends.append(server.socket)
        return server

    def close(self) -> None:
        for far in self.ends:
            far.close()
        self.relay.poll()
        self.relay.close()
        self.loop.close()
