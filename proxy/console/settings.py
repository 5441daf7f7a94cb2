"""SHOW CONFIG and SET: the configuration in force, by PgBouncer's names and by its own.

A key that PgBouncer has is shown under PgBouncer's name; all others under the path they have in the
file, such as `clusters.main.nodes.0.host`. Secrets are not shown. What SET changes holds until the
configuration is read again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config import Config, KeyPath, Secret, Section, is_changeable, with_value
from proxy.console.scene import Scene
from proxy.console.table import Row, columns

CONFIG_COLUMNS = columns(None, "key", "value", "default", "changeable")

_HIDDEN = "********"

# PgBouncer's name -> the path of the same thing here.
_PGBOUNCER: Mapping[str, KeyPath] = {
    "admin_users": ("auth", "admins"),
    "auth_dbname": ("auth", "query_database"),
    "auth_file": ("auth", "userlist_file"),
    "auth_hba_file": ("auth", "hba_file"),
    "auth_ident_file": ("auth", "ident_file"),
    "auth_query": ("auth", "query"),
    "auth_type": ("auth", "method"),
    "auth_user": ("auth", "query_user"),
    "client_tls_ca_file": ("listen", "tls", "ca"),
    "client_tls_cert_file": ("listen", "tls", "cert"),
    "client_tls_ciphers": ("listen", "tls", "ciphers"),
    "client_tls_key_file": ("listen", "tls", "key"),
    "client_tls_protocols": ("listen", "tls", "min_version"),
    "client_tls_sslmode": ("listen", "tls", "mode"),
    "default_pool_size": ("limits", "pool_size"),
    "listen_addr": ("listen", "host"),
    "listen_backlog": ("listen", "backlog"),
    "listen_port": ("listen", "port"),
    "max_client_conn": ("listen", "max_client_conn"),
    "stats_users": ("auth", "stats"),
    "tcp_keepalive": ("listen", "tcp_keepalive"),
    "tcp_keepcnt": ("listen", "tcp_keepcnt"),
    "tcp_keepidle": ("listen", "tcp_keepidle"),
    "tcp_keepintvl": ("listen", "tcp_keepintvl"),
    "unix_socket_dir": ("listen", "unix_socket_dir"),
} | {
    name: ("limits", name)
    for name in (
        "cancel_wait_timeout",
        "client_idle_timeout",
        "client_login_timeout",
        "idle_transaction_timeout",
        "max_db_client_connections",
        "max_db_connections",
        "max_prepared_statements",
        "max_user_client_connections",
        "max_user_connections",
        "min_pool_size",
        "pool_mode",
        "query_timeout",
        "query_wait_notify",
        "query_wait_timeout",
        "reserve_pool_size",
        "reserve_pool_timeout",
        "server_check_delay",
        "server_check_query",
        "server_connect_timeout",
        "server_idle_timeout",
        "server_lifetime",
        "server_login_retry",
        "transaction_timeout",
    )
}
_NAMES = {path: name for name, path in _PGBOUNCER.items()}


@dataclass(frozen=True, slots=True)
class _Entry:
    path: KeyPath
    value: Any
    default: Any


def show_config(scene: Scene) -> Iterator[Row]:
    """SHOW CONFIG, by name."""
    config = scene.config()
    rows = [
        [
            _name_of(entry.path),
            _shown(entry.value),
            _shown(entry.default),
            "yes" if is_changeable(entry.path) else "no",
        ]
        for entry in _entries(config, ())
    ]
    file = config.origin.path
    rows.append(["conffile", None if file is None else str(file), None, "no"])
    yield from sorted(rows, key=lambda row: str(row[0]))


def _entries(value: Any, path: KeyPath, default: Any = None) -> Iterator[_Entry]:
    """All values below this one that are no sections themselves."""
    if isinstance(value, Section):
        for name, field in type(value).model_fields.items():
            beside = field.get_default(call_default_factory=True)
            own = getattr(default, name, None) if isinstance(default, Section) else beside
            yield from _entries(getattr(value, name), (*path, name), own)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _entries(each, (*path, name))
    elif isinstance(value, tuple) and any(isinstance(each, Section) for each in value):
        for index, each in enumerate(value):
            yield from _entries(each, (*path, index))
    elif "command" in str(path[-1]):
        # What a command is given may be a secret.
        yield _Entry(path, Secret("") if value else None, None)
    else:
        yield _Entry(path, value, default)


def _name_of(path: KeyPath) -> str:
    return _NAMES.get(path) or ".".join(str(each) for each in path)


def _shown(value: Any) -> str | None:
    """A value as PgBouncer writes it: seconds, 1 for yes, lists with commas."""
    if value is None or isinstance(value, Section | Mapping):
        # A section is no value: the default of one that is there.
        return None
    if isinstance(value, Secret):
        return _HIDDEN
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    if isinstance(value, tuple):
        return ",".join(str(_shown(each)) for each in value)
    return str(value)


def with_setting(config: Config, key: str, written: str) -> Config:
    """The configuration with one key changed. key: PgBouncer's name, or a path.

    Raises ClientError, as `with_value`.
    """
    return with_value(config, _PGBOUNCER.get(key.lower()) or tuple(key.split(".")), written)
