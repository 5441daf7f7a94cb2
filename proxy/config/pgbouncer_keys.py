"""Every key of PgBouncer 1.25: how its value is read, what it means when absent, where it goes.

Three tables: `[pgbouncer]`, a connection string of `[databases]`, a line of `[users]`. A key either
has a place in our configuration, or it is one that `lost` speaks of: what an operator who wrote it
does not get. Source: PgBouncer's documentation, "pgbouncer.ini".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config.quantities import format_duration
from proxy.config.section import KeyPath

Read = Callable[[str], Any]
"""Makes of what is written what stands in our tree; None is nothing. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    default: what holds when it is absent, as it would be written.
    path: its place in our tree, None when it has none or when `pgbouncer` puts it there by hand.
    is_said: our default is another one, so that it stands in the tree even when it is absent.
    lost: what is lost, by what is written; None when nothing is.
    """

    read: Read
    default: str = ""
    path: KeyPath | None = None
    is_said: bool = False
    lost: Callable[[str], str | None] = lambda _written: None


# --- what is written ----------------------------------------------------------------------------


def text(written: str) -> str | None:
    """Any text; an empty one is as good as none."""
    return written or None


def file(written: str) -> str | None:
    """A file, which `pgbouncer` finds the place of."""
    return text(written)


def number(written: str) -> int:
    """A whole number, as C's strtol reads it: `0x` and a leading 0 count."""
    if not re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)", written):
        raise ValueError(f"expected a whole number, got {written!r}")
    bare = written.lstrip("+-")
    is_octal = len(bare) > 1 and bare[0] == "0" and bare.isdigit()
    try:
        value = int(bare, 8 if is_octal else 0)
    except ValueError:
        raise ValueError(f"expected a whole number, got {written!r}") from None
    return -value if written[0] == "-" else value


def flag(written: str) -> bool:
    """0 or 1."""
    try:
        return number(written) != 0
    except ValueError:
        raise ValueError(f"expected 0 or 1, got {written!r}") from None


def seconds(written: str) -> str:
    """Seconds, fractions allowed."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{0,9})?|\.[0-9]{1,9}", written):
        raise ValueError(f"expected a number of seconds, got {written!r}")
    return format_duration(float(written))


def milliseconds(written: str) -> str:
    """Milliseconds: `tcp_user_timeout` alone."""
    milli = number(written)
    if milli < 0:
        raise ValueError(f"expected a number of milliseconds, got {written!r}")
    return format_duration(milli / 1000)


def seconds_or_unset(written: str) -> str | None:
    """Seconds, or -1 for what holds otherwise."""
    return None if written == "-1" else seconds(written)


def number_or_unset(written: str) -> int | None:
    """A whole number, or -1 for what holds otherwise."""
    return None if written == "-1" else number(written)


def names(written: str) -> list[str] | None:
    """Names separated by commas."""
    return [each.strip() for each in written.split(",") if each.strip()] or None


def one_of(*words: str, **meaning: str) -> Read:
    """One of the words, in any case. meaning: ours of a word, where it is another one."""

    def read(written: str) -> str:
        word = written.lower()
        if word not in words:
            raise ValueError(f"expected one of {', '.join(words)}, got {written!r}")
        return meaning.get(word, word)

    return read


def file_mode(written: str) -> str:
    """Permissions, in octal."""
    if not re.fullmatch(r"0?[0-7]{3}", written):
        raise ValueError(f"expected permissions such as 0777, got {written!r}")
    return written if len(written) == 4 else f"0{written}"


def socket_dir(written: str) -> str | None:
    """A folder for a Unix socket; those without a file are not ours."""
    return None if written.startswith("@") else text(written)


def verbosity(written: str) -> str:
    """`-v` and more: what PgBouncer says then, we say at level debug."""
    return "debug" if number(written) > 0 else "info"


_VERSIONS = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_VERSION_SHORTCUTS = {
    "all": _VERSIONS,
    "legacy": _VERSIONS,
    "secure": _VERSIONS[2:],
    "default": _VERSIONS[2:],
}


def _versions(written: str) -> tuple[str, ...]:
    """The versions of TLS that a list allows."""
    allowed: set[str] = set()
    for each in re.split(r"[,:;\s]+", written.strip().lower()):
        known = _VERSION_SHORTCUTS.get(each, (each,) if each in _VERSIONS else None)
        if known is None:
            raise ValueError(
                f"expected {', '.join(_VERSIONS)}, or one of all, secure, got {written!r}"
            )
        allowed.update(known)
    return tuple(each for each in _VERSIONS if each in allowed)


def least_version(written: str) -> str:
    """The least version that a list allows and we speak."""
    return "TLSv1.3" if _versions(written) == ("tlsv1.3",) else "TLSv1.2"


_OPENSSL_CHOICE = ("", "default", "secure", "fast", "normal", "legacy")


def ciphers(written: str) -> str | None:
    """A list of ciphers as OpenSSL takes it; PgBouncer's words for its own choice are none."""
    return None if written.lower() in _OPENSSL_CHOICE else written.replace("all", "ALL")


# --- what is lost -------------------------------------------------------------------------------


def unless(ours: str, what: str) -> Callable[[str], str | None]:
    """What is lost when something else is written than what we do anyway."""
    return lambda written: None if _is_alike(written, ours) else what


def _is_alike(written: str, ours: str) -> bool:
    """Whether both say the same: 15 and 15.0 do."""
    try:
        return float(written) == float(ours)
    except ValueError:
        return written.lower() == ours.lower()


def _lost_versions(written: str) -> str | None:
    allowed = _versions(written)
    if not {"tlsv1.2", "tlsv1.3"} & set(allowed):
        return "TLS before 1.2 is not spoken (RFC 8996); 1.2 and newer are"
    if "tlsv1.0" in allowed or "tlsv1.1" in allowed:
        return "TLS before 1.2 is not spoken (RFC 8996)"
    if "tlsv1.3" not in allowed:
        return "TLS 1.3 is spoken as well"
    return None


def _lost_reset(written: str) -> str | None:
    if written.strip(" ;").lower() in ("discard all", "deallocate all"):
        return None
    return "what a session left behind is undone by what it was; this query is not sent"


def _lost_socket(written: str) -> str | None:
    return (
        "sockets in the abstract namespace are not supported" if written.startswith("@") else None
    )


def _lost_host(written: str) -> str | None:
    if not any(each.strip().startswith("@") for each in written.split(",")):
        return None
    return "sockets in the abstract namespace are not supported; nobody will be reached there"


def _lost_any(written: str) -> str | None:
    if written.lower() != "any":
        return None
    return "only those in admin_users and stats_users may use the console"


def _limit(name: str, read: Read, default: str, *, is_said: bool = False) -> Key:
    return Key(read, default, ("limits", name), is_said)


_MODES = ("session", "transaction", "statement")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_AUTH_TYPES = ("any", "trust", "plain", "md5", "scram-sha-256", "cert", "hba", "ldap", "pam")
_IS_RESOLVED = "names are resolved for every new connection, by the system"
_NO_SYSLOG = "the log goes to standard error and to logfile; systemd's journal has the first"
_NO_PEERS = "there are no peers; the workers of one pgweir pass cancel requests on"
_INTERNAL = "this has no counterpart in how pgweir reads and writes"

PGBOUNCER: Mapping[str, Key] = {
    # Generic settings
    "logfile": Key(file, path=("log", "file")),
    "pidfile": Key(file, path=("process", "pidfile")),
    "listen_addr": Key(str, "", ("listen", "host"), is_said=True),
    "listen_port": Key(number, "6432", ("listen", "port")),
    "unix_socket_dir": Key(
        socket_dir,
        "/tmp",  # noqa: S108 -- PgBouncer's default
        ("listen", "unix_socket_dir"),
        is_said=True,
        lost=_lost_socket,
    ),
    "unix_socket_mode": Key(file_mode, "0777", ("listen", "unix_socket_mode")),
    "unix_socket_group": Key(text, path=("listen", "unix_socket_group")),
    "user": Key(text, path=("process", "user")),
    "pool_mode": _limit("pool_mode", one_of(*_MODES), "session", is_said=True),
    "max_client_conn": Key(number, "100", ("listen", "max_client_conn"), is_said=True),
    "default_pool_size": _limit("pool_size", number, "20"),
    "min_pool_size": _limit("min_pool_size", number, "0"),
    "reserve_pool_size": _limit("reserve_pool_size", number, "0"),
    "reserve_pool_timeout": _limit("reserve_pool_timeout", seconds, "5"),
    "max_db_connections": _limit("max_db_connections", number, "0"),
    "max_db_client_connections": _limit("max_db_client_connections", number, "0"),
    "max_user_connections": _limit("max_user_connections", number, "0"),
    "max_user_client_connections": _limit("max_user_client_connections", number, "0"),
    "server_round_robin": Key(
        flag, "0", lost=unless("0", "the connection used last is always taken first")
    ),
    # All that is in a startup packet, and all that a server reports, follows the client anyway.
    "track_extra_parameters": Key(names, "IntervalStyle"),
    "ignore_startup_parameters": Key(names, path=("listen", "ignore_startup_parameters")),
    "peer_id": Key(number, "0", lost=unless("0", _NO_PEERS)),
    "disable_pqexec": Key(
        flag, "0", lost=unless("0", "statements of the simple protocol are let through")
    ),
    "application_name_add_host": Key(flag, "0", ("listen", "application_name_add_host")),
    "conffile": Key(text, lost=lambda _written: "a reload reads the file that was named at start"),
    # Names of a Windows service.
    "service_name": Key(text, "pgbouncer"),
    "job_name": Key(text, "pgbouncer"),
    "stats_period": Key(
        seconds, "60", lost=unless("60", "the averages of SHOW STATS are over 60 seconds")
    ),
    "max_prepared_statements": _limit("max_prepared_statements", number, "200"),
    "scram_iterations": Key(
        number, "4096", lost=unless("4096", "secrets made of plain passwords have 4096 iterations")
    ),
    # Authentication settings
    "auth_type": Key(
        one_of(*_AUTH_TYPES, plain="password"),
        "md5",
        ("auth", "method"),
        is_said=True,
        lost=_lost_any,
    ),
    "auth_hba_file": Key(file, path=("auth", "hba_file")),
    "auth_ident_file": Key(file, path=("auth", "ident_file")),
    "auth_file": Key(file, path=("auth", "userlist_file")),
    "auth_user": Key(text, path=("auth", "query_user")),
    "auth_query": Key(text, path=("auth", "query")),
    "auth_dbname": Key(text),
    "auth_ldap_options": Key(text),
    # Log settings
    "syslog": Key(flag, "0", lost=unless("0", _NO_SYSLOG)),
    "syslog_ident": Key(text, "pgbouncer", lost=unless("pgbouncer", _NO_SYSLOG)),
    "syslog_facility": Key(text, "daemon", lost=unless("daemon", _NO_SYSLOG)),
    "log_connections": Key(flag, "1", ("log", "connections")),
    "log_disconnections": Key(flag, "1", ("log", "disconnections")),
    "log_pooler_errors": Key(flag, "1", ("log", "refusals")),
    "log_stats": Key(
        flag, "1", lost=unless("0", "there are no lines of statistics; /metrics has the figures")
    ),
    "verbose": Key(verbosity, "0", ("log", "level")),
    # Console access control
    "admin_users": Key(names, path=("auth", "admins")),
    "stats_users": Key(names, path=("auth", "stats")),
    # Connection sanity checks, timeouts
    "server_reset_query": Key(text, "DISCARD ALL", lost=_lost_reset),
    "server_reset_query_always": Key(
        flag,
        "0",
        lost=unless("0", "a session's state follows its client, or is undone"),
    ),
    "server_check_delay": _limit("server_check_delay", seconds, "30"),
    "server_check_query": Key(
        lambda written: ";" if written == "<empty>" else written,
        "<empty>",
        ("limits", "server_check_query"),
    ),
    "server_fast_close": Key(
        flag, "0", lost=unless("0", "in session mode a connection is closed when its client goes")
    ),
    "server_lifetime": _limit("server_lifetime", seconds, "3600"),
    "server_idle_timeout": _limit("server_idle_timeout", seconds, "600"),
    "server_connect_timeout": _limit("server_connect_timeout", seconds, "15"),
    "server_login_retry": _limit("server_login_retry", seconds, "15", is_said=True),
    "client_login_timeout": _limit("client_login_timeout", seconds, "60"),
    "autodb_idle_timeout": Key(
        seconds, "3600", lost=unless("3600", "pools of such databases stay, without connections")
    ),
    "pool_idle_timeout": Key(seconds, "0", lost=unless("0", "pools stay, without connections")),
    "dns_max_ttl": Key(seconds, "15", lost=unless("15", _IS_RESOLVED)),
    "dns_nxdomain_ttl": Key(seconds, "15", lost=unless("15", _IS_RESOLVED)),
    "dns_zone_check_period": Key(seconds, "0", lost=unless("0", _IS_RESOLVED)),
    "resolv_conf": Key(text, lost=unless("", _IS_RESOLVED)),
    "query_wait_notify": _limit("query_wait_notify", seconds, "5"),
    "login_notify_message": Key(text, lost=unless("", "no notice is sent at login")),
    # TLS settings
    "client_tls_sslmode": Key(one_of(*_SSL_MODES), "disable", ("listen", "tls", "mode")),
    "client_tls_key_file": Key(file, path=("listen", "tls", "key")),
    "client_tls_cert_file": Key(file, path=("listen", "tls", "cert")),
    "client_tls_ca_file": Key(file, path=("listen", "tls", "ca")),
    "client_tls_protocols": Key(
        least_version, "secure", ("listen", "tls", "min_version"), lost=_lost_versions
    ),
    "client_tls_ciphers": Key(ciphers, "default", ("listen", "tls", "ciphers")),
    "client_tls13_ciphers": Key(text, lost=unless("", "OpenSSL chooses the ciphers of TLS 1.3")),
    "client_tls_ecdhcurve": Key(
        text, "auto", lost=unless("auto", "OpenSSL chooses the curve of a key exchange")
    ),
    "client_tls_dheparams": Key(
        text, "auto", lost=unless("auto", "OpenSSL chooses the group of a key exchange")
    ),
    # `server_tls` stands in each cluster.
    "server_tls_sslmode": Key(one_of(*_SSL_MODES), "prefer", ("server_tls", "mode")),
    "server_tls_ca_file": Key(file, path=("server_tls", "ca")),
    "server_tls_key_file": Key(file, path=("server_tls", "key")),
    "server_tls_cert_file": Key(file, path=("server_tls", "cert")),
    "server_tls_protocols": Key(
        least_version, "secure", ("server_tls", "min_version"), lost=_lost_versions
    ),
    "server_tls_ciphers": Key(ciphers, "default", ("server_tls", "ciphers")),
    "server_tls13_ciphers": Key(text, lost=unless("", "OpenSSL chooses the ciphers of TLS 1.3")),
    # Dangerous timeouts
    "query_timeout": _limit("query_timeout", seconds, "0"),
    "query_wait_timeout": _limit("query_wait_timeout", seconds, "120"),
    "cancel_wait_timeout": _limit("cancel_wait_timeout", seconds, "10"),
    "client_idle_timeout": _limit("client_idle_timeout", seconds, "0"),
    "idle_transaction_timeout": _limit("idle_transaction_timeout", seconds, "0"),
    "transaction_timeout": _limit("transaction_timeout", seconds, "0"),
    "suspend_timeout": Key(
        seconds,
        "10",
        lost=unless("10", "SUSPEND waits for 10 seconds; -R hands no connection over"),
    ),
    # Low-level network settings
    "pkt_buf": Key(number, "4096", lost=unless("4096", _INTERNAL)),
    "max_packet_size": Key(number, "2147483647", lost=unless("2147483647", _INTERNAL)),
    "listen_backlog": Key(number, "128", ("listen", "backlog"), is_said=True),
    "sbuf_loopcnt": Key(number, "5", lost=unless("5", _INTERNAL)),
    "so_reuseport": Key(flag, "0", ("listen", "so_reuseport")),
    "tcp_defer_accept": Key(number, "1", lost=unless("1", _INTERNAL)),
    "tcp_socket_buffer": Key(number, "0", lost=unless("0", _INTERNAL)),
    "tcp_keepalive": Key(flag, "1", ("listen", "tcp_keepalive")),
    "tcp_keepcnt": Key(number, "0", ("listen", "tcp_keepcnt")),
    "tcp_keepidle": Key(seconds, "0", ("listen", "tcp_keepidle")),
    "tcp_keepintvl": Key(seconds, "0", ("listen", "tcp_keepintvl")),
    "tcp_user_timeout": Key(milliseconds, "0", ("listen", "tcp_user_timeout")),
}


def _own(name: str, read: Read) -> Key:
    """A key of one database or user that has the same place in ours."""
    return Key(read, path=(name,))


# Those without a path make clusters, `pgbouncer` puts them there.
DATABASES: Mapping[str, Key] = {
    "dbname": _own("dbname", text),
    "host": Key(text, lost=_lost_host),
    "port": Key(number, "5432"),
    "user": Key(text, path=("server", "user")),
    "password": Key(text, path=("server", "password")),
    "auth_user": Key(text),
    "auth_query": Key(text),
    "auth_dbname": Key(text),
    "pool_size": _own("pool_size", number_or_unset),
    "min_pool_size": _own("min_pool_size", number_or_unset),
    "reserve_pool_size": _own("reserve_pool_size", number_or_unset),
    "reserve_pool": _own("reserve_pool_size", number_or_unset),
    "connect_query": _own("connect_query", text),
    "pool_mode": _own("pool_mode", one_of(*_MODES)),
    "query_wait_timeout": _own("query_wait_timeout", seconds_or_unset),
    "load_balance_hosts": Key(one_of("round-robin", "disable"), "round-robin"),
    "target_session_attrs": Key(
        one_of("any", "read-write", "read-only", "primary", "standby"), "any"
    ),
    "max_db_connections": _own("max_db_connections", number_or_unset),
    "max_db_client_connections": _own("max_db_client_connections", number_or_unset),
    "server_lifetime": _own("server_lifetime", seconds),
    "client_encoding": Key(text, path=("server_settings", "client_encoding")),
    "datestyle": Key(text, path=("server_settings", "datestyle")),
    "timezone": Key(text, path=("server_settings", "timezone")),
    "application_name": Key(text, path=("server_settings", "application_name")),
}

USERS: Mapping[str, Key] = {
    "pool_size": _own("pool_size", number_or_unset),
    "reserve_pool_size": _own("reserve_pool_size", number_or_unset),
    "pool_mode": _own("pool_mode", one_of(*_MODES)),
    "max_user_connections": _own("max_user_connections", number_or_unset),
    "max_user_client_connections": _own("max_user_client_connections", number_or_unset),
    "query_timeout": _own("query_timeout", seconds),
    "query_wait_timeout": _own("query_wait_timeout", seconds_or_unset),
    "idle_transaction_timeout": _own("idle_transaction_timeout", seconds),
    "transaction_timeout": _own("transaction_timeout", seconds),
    "client_idle_timeout": _own("client_idle_timeout", seconds),
}

PEERS = ("host", "port", "pool_size")
