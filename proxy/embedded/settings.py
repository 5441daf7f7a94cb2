"""What PostgreSQL is told: the text of postgresql.conf and pg_hba.conf.

Pure: facts in, text out. Speed is bought with durability against a crash of the *machine* only
(`fsync = off`); a killed postmaster recovers as it would anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.embedded.ports import LOOPBACK

SUPERUSER = "postgres"
REPLICATOR = "replicator"


@dataclass(frozen=True)
class ServerTls:
    """PEM files for `ssl = on`; `ca` verifies clients that log in by certificate."""

    cert: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True)
class Upstream:
    """Where a replica streams from, and the name it goes by there."""

    port: int
    password: str
    application_name: str

    def conninfo(self) -> str:
        """Write libpq's connection string, as `primary_conninfo` takes it."""
        return (
            f"host={LOOPBACK} port={self.port} user={REPLICATOR} password={self.password} "
            f"application_name={self.application_name}"
        )


def quote_literal(text: str) -> str:
    """Quote `text` for SQL and for postgresql.conf, which agree on doubled apostrophes."""
    return "'" + text.replace("'", "''") + "'"


def quote_setting(text: str) -> str:
    r"""Quote `text` for postgresql.conf, where a backslash escapes too."""
    return quote_literal(text.replace("\\", "\\\\"))


def postgresql_conf(
    *,
    name: str,
    major: int,
    port: int,
    socket_dir: Path | None,
    max_connections: int,
    replicas: int,
    upstream: Upstream | None,
    tls: bool,
    extra: Mapping[str, str],
) -> str:
    """Write postgresql.conf of one node; `extra` comes last and therefore wins.

    upstream: the primary of a replica, None for a primary. tls: certificate files lie in the data
    folder under their usual names (server.crt, server.key, and root.crt if clients are verified).
    """
    settings = {
        "cluster_name": name,
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": str(socket_dir or ""),
        "max_connections": str(max_connections),
        "shared_buffers": "64MB",
        # Files in the data folder, not in /dev/shm, where a kill -9 would leave them for ever.
        "dynamic_shared_memory_type": "mmap",
        "fsync": "off",
        "wal_level": "replica",
        "hot_standby": "on",
        # Two per replica while it is copied: the files, and the WAL written meanwhile.
        "max_wal_senders": str(10 + 2 * replicas),
        # Kept WAL instead of slots: a promoted replica has no slots, and the others would stop.
        "wal_keep_size": "512MB",
        # The defaults, 5 s and 10 s, would be most of what a failover test waits for.
        "wal_retrieve_retry_interval": "200ms",
        "wal_receiver_status_interval": "1s",
        # The default, 60 s, is how long a primary that hangs would be taken for one that rests.
        "wal_receiver_timeout": "5s",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "default_text_search_config": "pg_catalog.english",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if major >= 18:
        settings["io_method"] = "sync"  # three worker processes fewer per node
    if tls:
        settings |= {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
    if upstream is not None:
        settings["primary_conninfo"] = upstream.conninfo()
    settings |= extra
    return "".join(f"{key} = {quote_setting(value)}\n" for key, value in settings.items())


def pg_hba(first: Sequence[str] = ()) -> str:
    """Write pg_hba.conf: the lines of `first`, then SCRAM for everybody on this machine."""
    lines = (
        *first,
        "local all all scram-sha-256",
        f"host all all {LOOPBACK}/32 scram-sha-256",
        f"host replication {REPLICATOR} {LOOPBACK}/32 scram-sha-256",
    )
    return "".join(f"{line}\n" for line in lines)
