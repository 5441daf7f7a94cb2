"""What the data plane asks of the control plane. Nothing else goes up.

Every method is called in the middle of handling events: it must return at once and must not call
back into the relay; what takes time is scheduled.
"""

from enum import IntFlag
from typing import Any, Protocol

from proxy.relay.relay import Client, Decision, Ended, Link, Pool, Router, Server


class About(IntFlag):
    """What a session is asked about besides its settings."""

    PINS = 1  # what cannot be carried elsewhere
    STATEMENTS = 2  # which are prepared
    CHANNELS = 4  # to which it listens


class Leaves(IntFlag):
    """What a statement may leave in its session, where no text tells; effect bits of the relay."""

    SETTINGS = 1
    CHANNELS = 2
    PINS = 128
    STATEMENTS = 256
    HIDDEN = 4096  # what the session cannot be asked for: its client keeps it
    USES_SEQUENCE = 16384
    TELLS_SEQUENCE = 32768  # it asks for currval() or lastval()


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

    def settings_switch(
        self, have: Any, want: Any
    ) -> tuple[bytes, tuple[tuple[str, str | None], ...], tuple[bytes, ...]]:
        """SQL that turns a session in settings `have` into one in `want`; empty when they agree.

        The same as names and values for set_config(), empty when only the SQL will do. And what is
        to be run after it, text by text, whether or not each succeeds.
        """

    def settings_without_statements(self, settings: Any) -> Any:
        """These settings, when DEALLOCATE ALL has been run in them."""

    def settings_touched(self, text: bytes | None, values: bytes | None) -> tuple[Any, bool]:
        """What a statement says of settings, before it is sent; equal ones compare equal.

        Its `may_shift` says whether texts may mean something else after it.

        text: the statement, with what follows its NUL ignored; None when it is not all known.
        values: the body of its Bind, None in the simple protocol. Result besides: whether it may
        touch some whose names nobody can know, and which can therefore not be asked for.
        """

    def settings_of_words(self, text: bytes, values: bytes | None) -> Any:
        """What touches any settings, custom ones that are named in the text included; as above.

        values: the body of its Bind, or None.
        """

    def settings_of(self, settings: Any) -> Any:
        """What a statement says that touches just these settings; see `settings_touched`."""

    def session_question(
        self,
        server: Server,
        client: Client,
        touched: list[Any] | None,
        about: int,
    ) -> tuple[bytes, Any]:
        """SQL that asks a server what a client left in its session, and what to read its answer by.

        touched: as above, of all the client's statements since it was asked last; None when
        settings are not asked for. about: bits of `About`, what else is asked. Without SQL, what to
        read no rows by.
        """

    def session_answered(
        self, asked: Any, rows: list[bytes]
    ) -> tuple[
        Any,
        Any,
        bytes,
        tuple[str, ...] | None,
        tuple[dict[bytes, bytes], frozenset[bytes]] | None,
        frozenset[str] | None,
    ]:
        """Read the answer. rows: bodies of DataRow.

        Result: the server's settings and the client's, None where they were not asked for;
        ParameterStatus messages for the client where what it is to believe differs from what it was
        told; the pins, None where they were not asked for; the statements that PREPARE made, their
        texts by their names, with the names of those of the protocol; and the channels it listens
        to. Raises PeerError.
        """

    def client_pinned(
        self, client: Client, server: Server, pins: tuple[str, ...], cause: bytes
    ) -> bytes:
        """The client keeps its server connection for these reasons; for none: no longer.

        cause: the last text that may have made it so, or b"". Result: a NoticeResponse, or b"".
        """

    def may_run(self, client: Client, text: bytes, pins_refused: bool) -> bytes | None:
        """Whether a client may run a text that may LISTEN or pin: None when it may.

        b"": it is to wait until `client.go_on` is called, and asks again then. Else an
        ErrorResponse. pins_refused: what would pin is to be refused.
        """

    def client_listens(self, client: Client, channels: frozenset[str]) -> None:
        """A transaction has left the client listening to these channels."""

    def notified(self, client: Client, server: Server, body: bytes) -> bool:
        """Whether a NotificationResponse of its server connection is the client's to hear."""

    def explain_pooling(self, client: Client, text: bytes) -> bytes:
        """SQL that returns what the proxy would do with the statement in EXPLAIN POOLING."""

    def statement_ended(self, client: Client, server: Server, ended: Ended) -> None:
        """A statement has been answered that was slow, or is one of a sample."""

    def outcome_unknown(self, client: Client, text: bytes, in_transaction: bool) -> bool:
        """Whether a statement whose answer is lost may have taken effect for good.

        text: as it was sent, whole. in_transaction: whether it ran in a transaction block.
        """

    def routing_of(self, client: Client) -> tuple[Router, int, bool, bool, str | None, str | None]:
        """Who decides where this client's statements go, in its present settings.

        Result besides: options of the lexer; whether its transactions read only by default, and are
        serializable; what it set `pgweir.route` and `pgweir.consistency_key` to by other ways than
        the ones the relay sees itself.
        """

    def decide(self, router: Router, text: bytes, options: int) -> Decision:
        """What is to be known of a text that was not seen before."""

    def why_no_read(self, client: Client, text: bytes) -> str:
        """Why a client's statement does not only read, in a sentence."""

    def rule_met(self, client: Client, note: Any) -> None:
        """A statement came of which a decision has this note."""

    def writes_begin(self, pool: Pool) -> None:
        """Something was written to the pool's cluster, for the first time since it was quiet."""

    def keys_written(
        self, client: Client | None, cluster: str, keys: tuple[str | None, ...]
    ) -> bool:
        """Something was committed under these keys, None being every key.

        Result: whether the client is to be told only after others; `client.release` says when.
        """

    def ask_keys(
        self, client: Client, question: int, cluster: str, keys: tuple[str | None, ...]
    ) -> bool:
        """A client wants to read what others wrote under these keys; `client.hear` says what.

        Result: whether they can be asked.
        """

    def schema_changed(self, pool: Pool, of_code: bool) -> None:
        """A transaction that created, altered or dropped something is over.

        of_code: functions or what stands for them, such as triggers and views.
        """

    def bug(self, link: Link, error: Exception) -> None:
        """Handling the link raised: it is being closed."""
