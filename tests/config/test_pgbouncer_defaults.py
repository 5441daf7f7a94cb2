"""What holds in PgBouncer where a key is absent, by its documentation, and what holds here then.

Source: PgBouncer's documentation, "pgbouncer.ini": every key with the default that stands below it.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Config, Origin, load
from proxy.config.pgbouncer_keys import DATABASES, PEERS, PGBOUNCER, USERS

# Documented default, in PgBouncer's words; where it stands here, and as what.
CARRIED: dict[str, tuple[str | None, str, object]] = {
    "logfile": (None, "log.file", None),
    "pidfile": (None, "process.pidfile", None),
    "listen_addr": (None, "listen.host", ""),
    "listen_port": ("6432", "listen.port", 6432),
    "unix_socket_dir": ("/tmp", "listen.unix_socket_dir", Path("/tmp")),
    "unix_socket_mode": ("0777", "listen.unix_socket_mode", "0777"),
    "unix_socket_group": (None, "listen.unix_socket_group", None),
    "user": (None, "process.user", None),
    "pool_mode": ("session", "limits.pool_mode", "session"),
    "max_client_conn": ("100", "listen.max_client_conn", 100),
    "default_pool_size": ("20", "limits.pool_size", 20),
    "min_pool_size": ("0", "limits.min_pool_size", 0),
    "reserve_pool_size": ("0", "limits.reserve_pool_size", 0),
    "reserve_pool_timeout": ("5.0", "limits.reserve_pool_timeout", 5.0),
    "max_db_connections": ("0", "limits.max_db_connections", 0),
    "max_db_client_connections": ("0", "limits.max_db_client_connections", 0),
    "max_user_connections": ("0", "limits.max_user_connections", 0),
    "max_user_client_connections": ("0", "limits.max_user_client_connections", 0),
    "ignore_startup_parameters": (None, "listen.ignore_startup_parameters", ()),
    "application_name_add_host": ("0", "listen.application_name_add_host", False),
    "max_prepared_statements": ("200", "limits.max_prepared_statements", 200),
    "auth_type": ("md5", "auth.method", "md5"),
    "auth_hba_file": (None, "auth.hba_file", None),
    "auth_ident_file": (None, "auth.ident_file", None),
    "auth_file": (None, "auth.userlist_file", None),
    "auth_user": (None, "auth.query_user", None),
    "auth_query": (
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
        "FROM pg_authid WHERE rolname=$1 AND rolcanlogin",
        "auth.query",
        None,
    ),
    "auth_dbname": (None, "clusters.main.query_database", None),
    "auth_ldap_options": (None, "auth.ldap.ldapserver", ""),
    "log_connections": ("1", "log.connections", True),
    "log_disconnections": ("1", "log.disconnections", True),
    "log_pooler_errors": ("1", "log.refusals", True),
    "verbose": ("0", "log.level", "info"),
    "admin_users": (None, "auth.admins", ()),
    "stats_users": (None, "auth.stats", ()),
    "server_check_delay": ("30.0", "limits.server_check_delay", 30.0),
    "server_check_query": ("<empty>", "limits.server_check_query", ";"),
    "server_lifetime": ("3600.0", "limits.server_lifetime", 3600.0),
    "server_idle_timeout": ("600.0", "limits.server_idle_timeout", 600.0),
    "server_connect_timeout": ("15.0", "limits.server_connect_timeout", 15.0),
    "server_login_retry": ("15.0", "limits.server_login_retry", 15.0),
    "client_login_timeout": ("60.0", "limits.client_login_timeout", 60.0),
    "query_wait_notify": ("5", "limits.query_wait_notify", 5.0),
    "client_tls_sslmode": ("disable", "listen.tls.mode", "disable"),
    "client_tls_key_file": (None, "listen.tls.key", None),
    "client_tls_cert_file": (None, "listen.tls.cert", None),
    "client_tls_ca_file": (None, "listen.tls.ca", None),
    "client_tls_protocols": ("secure", "listen.tls.min_version", "TLSv1.2"),
    "client_tls_ciphers": ("default", "listen.tls.ciphers", None),
    "server_tls_sslmode": ("prefer", "clusters.main.server.tls.mode", "prefer"),
    "server_tls_ca_file": (None, "clusters.main.server.tls.ca", None),
    "server_tls_key_file": (None, "clusters.main.server.tls.key", None),
    "server_tls_cert_file": (None, "clusters.main.server.tls.cert", None),
    "server_tls_protocols": ("secure", "clusters.main.server.tls.min_version", "TLSv1.2"),
    "server_tls_ciphers": ("default", "clusters.main.server.tls.ciphers", None),
    "query_timeout": ("0.0", "limits.query_timeout", 0.0),
    "query_wait_timeout": ("120.0", "limits.query_wait_timeout", 120.0),
    "cancel_wait_timeout": ("10.0", "limits.cancel_wait_timeout", 10.0),
    "client_idle_timeout": ("0.0", "limits.client_idle_timeout", 0.0),
    "idle_transaction_timeout": ("0.0", "limits.idle_transaction_timeout", 0.0),
    "transaction_timeout": ("0.0", "limits.transaction_timeout", 0.0),
    "listen_backlog": ("128", "listen.backlog", 128),
    "so_reuseport": ("0", "listen.so_reuseport", False),
    "tcp_keepalive": ("1", "listen.tcp_keepalive", True),
    "tcp_keepcnt": (None, "listen.tcp_keepcnt", 0),
    "tcp_keepidle": (None, "listen.tcp_keepidle", 0.0),
    "tcp_keepintvl": (None, "listen.tcp_keepintvl", 0.0),
    "tcp_user_timeout": ("0", "listen.tcp_user_timeout", 0.0),
}

# Those without a place here: the documented default must cost nobody anything.
WITHOUT_A_PLACE: dict[str, str | None] = {
    "server_round_robin": "0",
    "track_extra_parameters": "IntervalStyle",
    "peer_id": "0",
    "disable_pqexec": "0",
    "conffile": None,
    "service_name": "pgbouncer",
    "job_name": "pgbouncer",
    "stats_period": "60",
    "scram_iterations": "4096",
    "syslog": "0",
    "syslog_ident": "pgbouncer",
    "syslog_facility": "daemon",
    "log_stats": "1",
    "server_reset_query": "DISCARD ALL",
    "server_reset_query_always": "0",
    "server_fast_close": "0",
    "autodb_idle_timeout": "3600.0",
    "pool_idle_timeout": "0",
    "dns_max_ttl": "15.0",
    "dns_nxdomain_ttl": "15.0",
    "dns_zone_check_period": "0.0",
    "resolv_conf": "",
    "login_notify_message": "",
    "client_tls13_ciphers": "",
    "client_tls_ecdhcurve": "auto",
    "client_tls_dheparams": "auto",
    "server_tls13_ciphers": "",
    "suspend_timeout": "10",
    "pkt_buf": "4096",
    "max_packet_size": "2147483647",
    "sbuf_loopcnt": "5",
    "tcp_defer_accept": "1",
    "tcp_socket_buffer": None,
}

DOCUMENTED_FOR_DATABASES = {
    "dbname",
    "host",
    "port",
    "user",
    "password",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool",
    "connect_query",
    "pool_mode",
    "query_wait_timeout",
    "load_balance_hosts",
    "target_session_attrs",
    "max_db_connections",
    "max_db_client_connections",
    "server_lifetime",
    "client_encoding",
    "datestyle",
    "timezone",
}
DOCUMENTED_FOR_USERS = {
    "pool_size",
    "reserve_pool_size",
    "pool_mode",
    "max_user_connections",
    "query_timeout",
    "query_wait_timeout",
    "idle_transaction_timeout",
    "transaction_timeout",
    "client_idle_timeout",
    "max_user_client_connections",
}
DOCUMENTED_FOR_PEERS = {"host", "port", "pool_size"}

# Not documented, and in PgBouncer's source: a database's application_name.
UNDOCUMENTED = {"application_name"}

SOUND = "[databases]\nshop = host=10.0.0.1\n[pgbouncer]\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Config]:
    def read_text(text: str) -> Config:
        path = tmp_path / "p.ini"
        path.write_text(text)
        return load(path, {})

    return read_text


def at(config: Config, path: str) -> object:
    here: object = config
    for part in path.split("."):
        here = here[part] if isinstance(here, dict) else getattr(here, part)
    return here


def test_every_documented_key_is_known_and_no_other() -> None:
    assert PGBOUNCER.keys() == CARRIED.keys() | WITHOUT_A_PLACE.keys()
    assert DATABASES.keys() == DOCUMENTED_FOR_DATABASES | UNDOCUMENTED
    assert USERS.keys() == DOCUMENTED_FOR_USERS
    assert set(PEERS) == DOCUMENTED_FOR_PEERS


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_absent_key_means_what_pgbouncer_documents(
    name: str, read: Callable[[str], Config]
) -> None:
    _, path, value = CARRIED[name]
    assert at(read(SOUND), path) == value


@pytest.mark.parametrize(
    ("name", "written"),
    [(name, written) for name, (written, _, _) in CARRIED.items() if written is not None]
    + [(name, written) for name, written in WITHOUT_A_PLACE.items() if written is not None],
)
def test_documented_default_that_is_written_out_changes_nothing(
    name: str, written: str, read: Callable[[str], Config]
) -> None:
    without, with_it = read(SOUND), read(f"{SOUND}{name} = {written}\n")
    assert with_it.noting((), Origin()) == without.noting((), Origin())
    told = [line for line in with_it.warnings if f": {name}: " in line]
    # There are no lines of statistics, and nobody asks a query without auth_user.
    assert len(told) == (name in ("log_stats", "auth_query"))
