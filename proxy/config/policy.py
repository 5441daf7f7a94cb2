"""All that holds for one user in one database, resolved: what a pool needs to know.

Everything a pool, its server connections and its clients ask the configuration is answered here
once per new (database, user), so nobody else has to know which of three places a limit came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.config.access import User
from proxy.config.databases import Database, Route
from proxy.config.limits import Limits
from proxy.config.secret import Secret
from proxy.config.section import PinPolicy, PoolMode, ServerReset
from proxy.config.topology import ServerLogin, ServerTls


@dataclass(frozen=True, slots=True)
class PasswordSource:
    """Where a password for the nodes comes from at each login: a file, else what a command prints.

    ttl_s: how long what it printed is used.
    """

    file: Path | None
    command: tuple[str, ...] = ()
    ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one user in one database.

    database, user: as the client asked. dbname: the database's name on the nodes.
    target: `primary`, `replica`, or a role some node has: where all goes that nothing else routes.
    reads_begin_on_replicas: a transaction whose first statement reads may start on a replica.
    looks_at_statements: some route may hold for single statements.
    traced: whether statements that name a trace are to become spans of it.
    audited: whether the audit log may want any of its statements.
    server_user, server_password: log in to the node as them; None means as the client's user,
    with what the client proved. server_settings, connect_query: what such a connection begins with.
    server_password_source: asked before server_password.
    Durations are float seconds, sizes int bytes; what 0 means stands with each key in `Limits`.
    """

    database: str
    user: str
    dbname: str
    cluster: str
    target: str
    read_write_split: bool
    reads_begin_on_replicas: bool
    looks_at_statements: bool
    share_unnamed: bool
    audited: bool
    traced: bool
    server_user: str | None
    server_password: Secret | None
    server_password_source: PasswordSource | None
    server_tls: ServerTls
    server_require_auth: tuple[str, ...]
    server_settings: Mapping[str, str]
    connect_query: str | None
    pool_mode: PoolMode
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    reserve_pool_timeout: float
    max_db_connections: int
    max_user_connections: int
    max_db_client_connections: int
    max_user_client_connections: int
    query_wait_timeout: float
    query_wait_notify: float
    query_timeout: float
    log_min_duration: float
    transaction_timeout: float
    idle_transaction_timeout: float
    client_idle_timeout: float
    client_login_timeout: float
    server_connect_timeout: float
    server_login_retry: float
    server_check_delay: float
    server_check_query: str
    server_idle_timeout: float
    server_lifetime: float
    cancel_wait_timeout: float
    shutdown_timeout: float
    max_prepared_statements: int
    max_client_statements: int
    max_statement_bytes: int
    pins: PinPolicy
    max_pinned: int
    pin_timeout: float
    pin_notice: bool
    session_functions: tuple[str, ...]
    server_reset: ServerReset


def resolve_limits(limits: Limits, database: Database, user: User | None) -> dict[str, Any]:
    """Each limit by its name: the user's where set, else the database's, else the global one.

    Source: PgBouncer's documentation, "Section [users]": what a user sets overrides the database.
    """
    resolved: dict[str, Any] = {}
    for name in Limits.model_fields:
        # Some limits are about a database or a user as a whole: the other has no say in them.
        of_user = None if user is None else getattr(user, name, None)
        of_database = getattr(database, name, None)
        if of_user is not None:
            resolved[name] = of_user
        elif of_database is not None:
            resolved[name] = of_database
        else:
            resolved[name] = getattr(limits, name)
    # The two may come from different places, and a pool keeps no more than it may open.
    resolved["min_pool_size"] = min(resolved["min_pool_size"], resolved["pool_size"])
    return resolved


def resolve_login(
    of_cluster: ServerLogin, of_database: ServerLogin | None
) -> tuple[str | None, Secret | None, ServerTls]:
    """User, password and TLS for the node: the database's where given, else the cluster's.

    A password belongs to its user: a database that names another user does not send that user the
    cluster's password.
    """
    if of_database is None:
        return of_cluster.user, of_cluster.password, of_cluster.tls
    user = of_cluster.user if of_database.user is None else of_database.user
    password = of_database.password
    if password is None and user == of_cluster.user:
        password = of_cluster.password
    tls = of_database.tls if "tls" in of_database.model_fields_set else of_cluster.tls
    return user, password, tls


def resolve_require_auth(
    of_cluster: ServerLogin, of_database: ServerLogin | None
) -> tuple[str, ...]:
    """Ways of logging in that a node may ask for, any when empty: the database's, if it says."""
    return (of_database and of_database.require_auth) or of_cluster.require_auth


def resolve_password_source(
    of_cluster: ServerLogin, of_database: ServerLogin | None
) -> PasswordSource | None:
    """Where the password of `resolve_login` comes from, None when it stands in the file itself."""
    if of_database is not None:
        if of_database.password is not None or of_database.password_command:
            return source_of(of_database)
        if of_database.user not in (None, of_cluster.user):
            return None
    return source_of(of_cluster)


def source_of(login: ServerLogin) -> PasswordSource | None:
    """Where a login's password comes from, None when it stands in the file itself."""
    if login.password_file is None and not login.password_command:
        return None
    return PasswordSource(login.password_file, login.password_command, login.password_ttl)


def pick_target(routes: Sequence[Route], database: str, user: str) -> str:
    """Where the first route that matches sends this session's statements; `primary` by default.

    Routes that look at more than who logged in match nothing here.
    """
    for route in routes:
        if route.to is not None and route.match.matches_session(database, user):
            return route.to
    return "primary"


def looks_at_statements(routes: Sequence[Route], database: str, user: str) -> bool:
    """Whether some route may hold for single statements of this user in this database."""
    return any(
        route.match.may_match(database, user)
        and (route.acts_on_statements or not route.match.is_by_login)
        for route in routes
    )


def find_database(databases: Mapping[str, Database], database: str) -> Database | None:
    """The entry of that name, else `*`, else None."""
    return databases.get(database) or databases.get("*")
