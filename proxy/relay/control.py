"""What the data plane asks of the control plane. Nothing else goes up.

Every method is called in the middle of handling events: it must return at once and must not call
back into the relay; what takes time is scheduled.
"""

from typing import Any, Protocol

from proxy.relay.relay import Client, Link, Pool, Server


class Control(Protocol):
    """The control plane, as the relay sees it. `proxy.workers` implements it."""

    def grow(self, pool: Pool) -> None:
        """Open one more connection for the pool; `pool.connecting` counts it already."""

    def cancel(self, server: Server) -> None:
        """Send a cancel request for the server, then call `server.cancel_done`."""

    def client_gone(self, client: Client, reason: str) -> None:
        """The client's connection is over; reason "" when it said Terminate."""

    def server_gone(self, server: Server, reason: str) -> None:
        """The server's connection is over; reason "" when that was the proxy's wish."""

    def server_violated(self, server: Server, what: str) -> None:
        """The server sent what it must not; it is being closed."""

    def link_lingers(self, link: Link) -> None:
        """The link is closing and its peer does not read: `abandon` it in a while."""

    def settings_reported(self, settings: Any, name: str, value: str) -> Any:
        """The settings after a ParameterStatus; the same object when nothing changed."""

    def settings_switch(self, have: Any, want: Any) -> bytes:
        """SQL that turns a session in settings `have` into one in `want`; empty when they agree."""

    def bug(self, link: Link, error: Exception) -> None:
        """Handling the link raised: it is being closed."""
