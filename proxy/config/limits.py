"""Limits: pool sizes, timeouts and bounds on memory, with PgBouncer's names and meanings.

`Limits` holds the values for everything; `Overrides` has the same keys, all optional, and is what
a database and a user inherit. What counts a database's connections can be set for a database only,
and what counts a user's for a user only. `Config.policy` is where all are resolved into one.
"""

from typing import Any

from pydantic import Field

from proxy.config.quantities import Duration, Size
from proxy.config.section import Count, PinPolicy, PoolMode, PoolSize, Section, ServerReset


class Limits(Section):
    """Limits for every database and user that does not set its own."""

    pool_mode: PoolMode = Field(
        default="transaction",
        description="When a client gives its server connection back: when it leaves, after each "
        "transaction, or after each statement (transactions are then refused).",
    )
    pool_size: PoolSize = Field(
        default=20, description="Most server connections of a pool (node, database and user)."
    )
    min_pool_size: Count = Field(
        default=0, description="Server connections a pool keeps open even when nobody uses them."
    )
    reserve_pool_size: Count = Field(
        default=0,
        description="Server connections a pool may open beyond `pool_size` when a client has "
        "waited for `reserve_pool_timeout`; they are closed once nobody needs them.",
    )
    reserve_pool_timeout: Duration = Field(
        default=5.0,
        description="How long a client must have waited for its pool to open connections of its "
        "reserve; 0 is never.",
    )
    max_db_connections: Count = Field(
        default=0,
        description="Most server connections of one database over all its pools; 0 is no limit.",
    )
    max_user_connections: Count = Field(
        default=0,
        description="Most server connections of one client user over all its pools; 0 is no limit.",
    )
    max_db_client_connections: Count = Field(
        default=0,
        description="Most clients in one database, whoever they are; the next one is refused "
        "with 53300. 0 is no limit but `max_client_conn`.",
    )
    max_user_client_connections: Count = Field(
        default=0,
        description="Most clients of one user, in all databases; the next one is refused with "
        "53300. 0 is no limit but `max_client_conn`.",
    )
    query_wait_timeout: Duration = Field(
        default=120.0,
        description="How long a statement may wait for a server connection; 0 is for ever.",
    )
    query_wait_notify: Duration = Field(
        default=5.0,
        description="A client that has waited this long for a server connection is told so by a "
        "NOTICE; 0 is off.",
    )
    query_timeout: Duration = Field(
        default=0.0,
        description="How long a statement may run before it is cancelled; 0 is off. If that does "
        "not end it within 3 s more, its client is disconnected.",
    )
    log_min_duration: Duration = Field(
        default=0.0,
        description="A statement that took longer, its wait for a server connection included, is "
        "logged as slow; 0 is off.",
    )
    transaction_timeout: Duration = Field(
        default=0.0,
        description="How long a transaction may last, a single statement included, before its "
        "client is disconnected; 0 is off.",
    )
    idle_transaction_timeout: Duration = Field(
        default=0.0,
        description="How long a client may idle inside a transaction before it is disconnected; "
        "0 is off.",
    )
    client_idle_timeout: Duration = Field(
        default=0.0,
        description="How long a client may idle outside a transaction before it is "
        "disconnected; 0 is off.",
    )
    client_login_timeout: Duration = Field(
        default=60.0, description="How long a client may take to log in; 0 is off."
    )
    server_connect_timeout: Duration = Field(
        default=15.0,
        description="How long connecting and logging in to a node may take; 0 is off.",
    )
    # PgBouncer waits 15 s. A node that restarts or is promoted is back within one or two, and
    # clients are held meanwhile: one attempt a second costs nothing and ends their wait sooner.
    server_login_retry: Duration = Field(
        default=1.0,
        description="How long to wait before connecting again after a failed attempt. "
        "PgBouncer waits 15s; one second ends a node's restart sooner for the clients waiting.",
    )
    server_check_delay: Duration = Field(
        default=30.0,
        description="A server connection that was unused for longer is asked "
        "`server_check_query` before a client gets it; with 0 it always is.",
    )
    server_check_query: str = Field(
        default=";",
        description="What it is asked, by default an empty statement; with an empty text no "
        "connection is checked.",
    )
    server_idle_timeout: Duration = Field(
        default=600.0,
        description="Server connections unused for longer are closed, down to `min_pool_size`; "
        "0 is off.",
    )
    server_lifetime: Duration = Field(
        default=3600.0,
        description="Server connections older than this are closed when they become free; with 0 "
        "each is used once.",
    )
    cancel_wait_timeout: Duration = Field(
        default=10.0,
        description="How long a cancel request may wait until it can be sent; 0 is for ever.",
    )
    shutdown_timeout: Duration = Field(
        default=60.0,
        description="How long running transactions may take to finish after SIGTERM; 0 is for "
        "ever.",
    )
    max_prepared_statements: Count = Field(
        default=200,
        description="Prepared statements kept per server connection, the least recently used "
        "goes first; with 0 none is tracked and names pass through, as in session mode.",
    )
    max_client_statements: Count = Field(
        default=10_000,
        description="Prepared statements one client may hold; the next one is refused.",
    )
    max_statement_bytes: Size = Field(
        default=1 << 20,
        description="Longest statement text that is kept so that it can be prepared again on "
        "another server connection.",
    )
    pins: PinPolicy = Field(
        default="allow",
        description="Whether a client may keep its server connection for what it leaves in the "
        "session, such as a temporary table; with `refuse` a statement that would do so is an "
        "error, 0A000.",
    )
    max_pinned: Count = Field(
        default=0,
        description="Most clients of a user in a database that keep their server connections; "
        "the next one is disconnected with 53400. 0 is no limit.",
    )
    pin_timeout: Duration = Field(
        default=0.0,
        description="How long a client may keep its server connection before it is disconnected "
        "with 53400, once it is idle; 0 is off.",
    )
    pin_notice: bool = Field(
        default=False,
        description="Tell a client by a NOTICE when it begins to keep its server connection, "
        "and why.",
    )
    session_functions: tuple[str, ...] = Field(
        default=(),
        description="Names of functions that change the session in a way that no text tells: "
        "whoever calls one keeps its server connection until it leaves or says DISCARD ALL.",
    )
    server_reset: ServerReset = Field(
        default="smart",
        description="What is undone when a server connection goes back: `smart` what was "
        "touched, `always` everything (DISCARD ALL after each use), `never` nothing but what "
        "follows a client.",
    )


def _instead_of(name: str) -> Any:
    """A field that overrides the limit of that name: the same meaning, and None when not set."""
    return Field(
        default=None,
        description=f"In place of `limits.{name}`. {Limits.model_fields[name].description}",
    )


class Overrides(Section):
    """The keys of `Limits`, each None unless it is set here."""

    pool_mode: PoolMode | None = _instead_of("pool_mode")
    pool_size: PoolSize | None = _instead_of("pool_size")
    min_pool_size: Count | None = _instead_of("min_pool_size")
    reserve_pool_size: Count | None = _instead_of("reserve_pool_size")
    reserve_pool_timeout: Duration | None = _instead_of("reserve_pool_timeout")
    query_wait_timeout: Duration | None = _instead_of("query_wait_timeout")
    query_wait_notify: Duration | None = _instead_of("query_wait_notify")
    query_timeout: Duration | None = _instead_of("query_timeout")
    log_min_duration: Duration | None = _instead_of("log_min_duration")
    transaction_timeout: Duration | None = _instead_of("transaction_timeout")
    idle_transaction_timeout: Duration | None = _instead_of("idle_transaction_timeout")
    client_idle_timeout: Duration | None = _instead_of("client_idle_timeout")
    client_login_timeout: Duration | None = _instead_of("client_login_timeout")
    server_connect_timeout: Duration | None = _instead_of("server_connect_timeout")
    server_login_retry: Duration | None = _instead_of("server_login_retry")
    server_check_delay: Duration | None = _instead_of("server_check_delay")
    server_check_query: str | None = _instead_of("server_check_query")
    server_idle_timeout: Duration | None = _instead_of("server_idle_timeout")
    server_lifetime: Duration | None = _instead_of("server_lifetime")
    cancel_wait_timeout: Duration | None = _instead_of("cancel_wait_timeout")
    shutdown_timeout: Duration | None = _instead_of("shutdown_timeout")
    max_prepared_statements: Count | None = _instead_of("max_prepared_statements")
    max_client_statements: Count | None = _instead_of("max_client_statements")
    max_statement_bytes: Size | None = _instead_of("max_statement_bytes")
    pins: PinPolicy | None = _instead_of("pins")
    max_pinned: Count | None = _instead_of("max_pinned")
    pin_timeout: Duration | None = _instead_of("pin_timeout")
    pin_notice: bool | None = _instead_of("pin_notice")
    session_functions: tuple[str, ...] | None = _instead_of("session_functions")
    server_reset: ServerReset | None = _instead_of("server_reset")


class DatabaseOverrides(Overrides):
    """Limits a database may set: those about the database as a whole besides."""

    max_db_connections: Count | None = _instead_of("max_db_connections")
    max_db_client_connections: Count | None = _instead_of("max_db_client_connections")


class UserOverrides(Overrides):
    """Limits a user may set: those about the user as a whole besides."""

    max_user_connections: Count | None = _instead_of("max_user_connections")
    max_user_client_connections: Count | None = _instead_of("max_user_client_connections")
