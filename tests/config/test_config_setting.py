"""One value of the configuration changed at run time."""

import pytest

from proxy.config import Config, is_changeable, parse, with_value
from proxy.errors import ClientError

CONFIG = parse(
    "auth: {users: {app: {password: geheim}}}\n"
    "clusters: {main: {nodes: [{host: db1}], server: {password: geheim}}}\n"
    "databases: {app: {cluster: main}}\n",
    {},
    file="pgweir.yaml",
)


@pytest.mark.parametrize(
    ("path", "written", "value"),
    [
        (("limits", "pool_size"), "30", 30),
        (("limits", "query_timeout"), "250ms", 0.25),
        (("limits", "query_timeout"), "5", 5.0),
        (("limits", "max_statement_bytes"), "64KiB", 65536),
        (("limits", "pool_mode"), "session", "session"),
        (("limits", "server_check_query"), "select 1", "select 1"),
        (("listen", "tcp_keepalive"), "0", False),
        (("listen", "max_client_conn"), "5", 5),
        (("auth", "admins"), "app", ("app",)),
        (("log", "level"), "debug", "debug"),
    ],
)
def test_a_value_is_read_as_in_the_file(path: tuple[str, str], written: str, value: object) -> None:
    changed = with_value(CONFIG, path, written)
    assert getattr(getattr(changed, path[0]), path[1]) == value
    assert changed.clusters is CONFIG.clusters
    assert changed.origin is CONFIG.origin


@pytest.mark.parametrize(
    ("path", "written", "sqlstate"),
    [
        (("limits", "nonsense"), "1", "42704"),
        (("nonsense",), "1", "42704"),
        (("limits", "pool_size", "more"), "1", "42704"),
        (("limits",), "1", "55P02"),
        (("auth", "users"), "x", "55P02"),
        (("listen", "port"), "1", "55P02"),
        (("workers",), "4", "55P02"),
        (("listen", "tls", "key"), "x", "55P02"),
        (("auth", "userlist_file"), "/etc/passwd", "55P02"),
        (("auth", "query_password"), "x", "55P02"),
        (("clusters",), "x", "55P02"),
        (("limits", "pool_size"), "0", "22023"),
        (("limits", "pool_size"), "many", "22023"),
        (("limits", "pool_mode"), "nap", "22023"),
        (("auth", "admins"), "stranger", "22023"),
        (("listen", "tls", "mode"), "require", "22023"),
    ],
)
def test_what_cannot_be_changed_says_why(
    path: tuple[str, ...], written: str, sqlstate: str
) -> None:
    with pytest.raises(ClientError) as refused:
        with_value(CONFIG, path, written)
    assert refused.value.sqlstate == sqlstate


def test_what_needs_a_restart_is_known() -> None:
    assert not is_changeable(("listen", "port"))
    assert not is_changeable(("http", "port"))
    assert is_changeable(("listen", "max_client_conn"))
    assert isinstance(CONFIG, Config)
