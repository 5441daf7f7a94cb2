"""The configuration of each proxy: the same facts, written as each of them reads them. Pure.

All get what their manuals advise for this use and nothing that the others could not have: one
process, TCP, transaction pooling with the same pool, no lines in the log for each connection, plain
connections to the server.
"""

from dataclasses import dataclass

import yaml

from benchmarks.certificate import Certificate

HOST = "127.0.0.1"
USER = "app"
PASSWORD = "secret"
DATABASE = "bench"
_READERS = "readers"
PROXIES = ("pgweir", "pgweir-split", "pgbouncer", "haproxy")


@dataclass(frozen=True)
class Wanted:
    """What a proxy is to be.

    replica_ports: of nodes that stream from the server; pgweir alone knows what to do with them,
    and lets the primary read as well.
    monitor_user, monitor_password: how pgweir probes the server. certificate: TLS is then required
    of clients.
    """

    port: int
    server_port: int
    auth: str
    max_clients: int
    pool_size: int
    monitor_user: str
    monitor_password: str
    certificate: Certificate | None = None
    share_unnamed: bool = False
    replica_ports: tuple[int, ...] = ()


def pgweir_yaml(wanted: Wanted, *, splits: bool = False) -> str:
    """Write pgweir's configuration. splits: statements are routed by what they do."""
    listen: dict[str, object] = {
        "host": HOST,
        "port": wanted.port,
        "max_client_conn": wanted.max_clients + 100,
    }
    if wanted.certificate is not None:
        listen["tls"] = {
            "mode": "require",
            "cert": str(wanted.certificate.cert),
            "key": str(wanted.certificate.key),
        }
    database: dict[str, object] = {
        "cluster": "main",
        "pool_mode": "transaction",
        "pool_size": wanted.pool_size,
    }
    if splits or wanted.replica_ports:
        database["read_write_split"] = True
    if wanted.share_unnamed:
        database["share_unnamed"] = True
    # Without a role that all of them have, the primary would have its CPU for writes alone.
    role = {"roles": [_READERS]} if wanted.replica_ports else {}
    configuration: dict[str, object] = {
        "listen": listen,
        "http": {"host": HOST, "port": 0},
        "workers": 1,
        # As PgBouncer with log_connections = 0: no line for each connection.
        "log": {"level": "warning"},
        "auth": {"method": wanted.auth, "users": {USER: {"password": PASSWORD}}},
        "clusters": {
            "main": {
                "nodes": [
                    {"name": f"db{number}", "host": HOST, "port": port, **role}
                    for number, port in enumerate((wanted.server_port, *wanted.replica_ports), 1)
                ],
                "server": {"user": USER, "password": PASSWORD, "tls": {"mode": "disable"}},
                "monitor": {
                    "user": wanted.monitor_user,
                    "password": wanted.monitor_password,
                },
            }
        },
        "databases": {DATABASE: database},
    }
    if wanted.replica_ports:
        configuration["routes"] = [{"match": {"table": "pgbench_accounts"}, "to": _READERS}]
    text: str = yaml.safe_dump(configuration, sort_keys=False)
    return text


def pgbouncer_ini(wanted: Wanted, userlist: str) -> str:
    """Write pgbouncer.ini; `userlist` is the path of the file with `pgbouncer_userlist()`."""
    settings: dict[str, object] = {
        "listen_addr": HOST,
        "listen_port": wanted.port,
        "unix_socket_dir": "",
        "auth_type": wanted.auth,
        "auth_file": userlist,
        "pool_mode": "transaction",
        "default_pool_size": wanted.pool_size,
        "max_client_conn": wanted.max_clients + 100,
        "log_connections": 0,
        "log_disconnections": 0,
        "log_stats": 0,
        "server_tls_sslmode": "disable",
        "ignore_startup_parameters": "extra_float_digits",
        # The kernel's backlog of 128 is short for ten thousand clients that come at once.
        "listen_backlog": 4096,
    }
    if wanted.certificate is not None:
        settings |= {
            "client_tls_sslmode": "require",
            "client_tls_cert_file": wanted.certificate.cert,
            "client_tls_key_file": wanted.certificate.key,
        }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    server = f"host={HOST} port={wanted.server_port} dbname={DATABASE} user={USER}"
    return f"[databases]\n{DATABASE} = {server} password={PASSWORD}\n\n[pgbouncer]\n{lines}"


def pgbouncer_userlist() -> str:
    """Write PgBouncer's file of users: the password in clear text, as pgweir has it too."""
    return f'"{USER}" "{PASSWORD}"\n'


def haproxy_cfg(wanted: Wanted) -> str:
    """Write haproxy.cfg: TCP mode, one thread, a server connection for each client."""
    return f"""\
global
    nbthread 1
    maxconn {wanted.max_clients + 50}

defaults
    mode tcp
    option tcp-smart-accept
    option tcp-smart-connect
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen postgres
    bind {HOST}:{wanted.port}
    server db1 {HOST}:{wanted.server_port}
"""
