"""One end of a socket pair as a relay's link, to feed bytes to the login readers."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from proxy.relay import Link, Pool, Relay, Server
from proxy.relay.relay import Client


class NoControl:
    """A control plane for links that never leave their login."""

    def grow(self, pool: Pool) -> None: ...

    def cancel(self, server: Server) -> None: ...

    def client_gone(self, client: Client, reason: str) -> None: ...

    def server_gone(self, server: Server, reason: str) -> None: ...

    def server_violated(self, server: Server, what: str) -> None: ...

    def link_lingers(self, link: Link) -> None: ...

    def statement_ended(self, client: Client, server: Server, ended: object) -> None: ...

    def settings_reported(self, settings: Any, name: str, value: str) -> Any:
        return settings

    def settings_switch(self, have: Any, want: Any) -> tuple[bytes, tuple[()], tuple[()]]:
        return b"", (), ()

    def schema_changed(self, pool: Pool, of_code: bool) -> None: ...

    def bug(self, link: Link, error: Exception) -> None:
        raise error


class WireEnd:
    """A link in its login, and the peer's socket."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.relay = Relay(self.loop, NoControl(), [1.0])
        near, self.peer = socket.socketpair()
        near.setblocking(False)
        self.link = self.relay.dial(near.detach(), "test")

    def arrive(self, octets: bytes) -> None:
        """Let the link have these bytes."""
        self.peer.sendall(octets)
        self.relay.poll()
        _ = self.link.has_unread  # reads what is there

    def end(self) -> None:
        """Let the peer end."""
        self.peer.close()
        self.relay.poll()
        _ = self.link.has_unread

    def close(self) -> None:
        self.link.abandon()
        self.peer.close()
        self.relay.close()
        self.loop.close()


def read_all(pieces: list[bytes], take: Callable[[Link], Any]) -> tuple[list[Any], str | None]:
    """What a reader takes from bytes that arrive in these pieces, and the error that ended it."""
    from proxy.errors import PeerError

    end = WireEnd()
    taken = []
    try:
        for piece in pieces:
            if piece:
                end.arrive(piece)
            try:
                while (each := take(end.link)) is not None:
                    taken.append(each)
            except PeerError as broken:
                return taken, broken.message
        return taken, None
    finally:
        end.close()
