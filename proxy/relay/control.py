"""What the data plane asks of the control plane. Nothing else goes up.

Every method is called in the middle of handling events: it must return at once and must not call
back into the relay; what takes time is scheduled.
"""

from enum import IntFlag
from typing import Any, Protocol

from proxy.relay.relay import Client, Ended, Link, Pool, Server


class About(IntFlag):
    """What a session is asked about besides its settings."""

    PINS = 1  # what cannot be carried elsewhere
    STATEMENTS = 2  # which are prepared


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

    def settings_switch(self, have: Any, want: Any) -> tuple[bytes, tuple[bytes, ...]]:
        """SQL that turns a session in settings `have` into one in `want`; empty when they agree.

        And what is to be run after it, text by text, whether or not each succeeds.
        """

    def settings_without_statements(self, settings: Any) -> Any:
        """These settings, when DEALLOCATE ALL has been run in them."""

    def settings_touched(self, text: bytes | None, values: bytes | None) -> Any:
        """What a statement says of settings, before it is sent; equal ones compare equal.

        text: the statement, with what follows its NUL ignored; None when it is not all known.
        values: the body of its Bind, None in the simple protocol.
        """

    def settings_of(self, settings: Any) -> Any:
        """What a statement says that touches just these settings; see `settings_touched`."""

    def session_question(
        self,
        server: Server,
        believed: Any,
        startup: Any,
        touched: list[Any] | None,
        about: int,
    ) -> tuple[bytes, Any]:
        """SQL that asks a server what a client left in its session, and what to read its answer by.

        believed, startup: the client's settings, now and at its login. touched: as above, of all
        its statements since it was asked last; None when settings are not asked for. about: bits
        of `About`, what else is asked. Without SQL, what to read no rows by.
        """

    def session_answered(
        self, asked: Any, rows: list[bytes]
    ) -> tuple[
        Any,
        Any,
        bytes,
        tuple[str, ...] | None,
        tuple[dict[bytes, bytes], frozenset[bytes]] | None,
    ]:
        """Read the answer. rows: bodies of DataRow.

        Result: the server's settings and the client's, None where they were not asked for;
        ParameterStatus messages for the client where what it is to believe differs from what it was
        told; the pins, None where they were not asked for; and the statements that PREPARE made,
        their texts by their names, with the names of those of the protocol. Raises PeerError.
        """

    def client_pinned(self, client: Client, pins: tuple[str, ...]) -> None:
        """The client keeps its server connection for these reasons; for none: no longer."""

    def statement_ended(self, client: Client, server: Server, ended: Ended) -> None:
        """A statement has been answered that was slow, or is one of a sample."""

    def bug(self, link: Link, error: Exception) -> None:
        """Handling the link raised: it is being closed."""
