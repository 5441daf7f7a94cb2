"""From one configuration to another: what differs, and from when on it holds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from proxy.config import Config, changes_between, needs_restart

BEFORE = """\
listen: {port: 6432, max_client_conn: 100, tls: {mode: disable}}
auth:
  users:
    app: {password: first-secret}
    gone: {password: x}
clusters:
  main:
    nodes: [{name: db1, host: h1}, {name: db2, host: h2}]
    monitor: {user: m, password: p}
databases:
  shop: {cluster: main, pool_size: 5}
  old: {cluster: main}
limits: {query_timeout: 5s}
"""

# What is put in the place of what -> what is said.
CHANGES = [
    ("port: 6432", "port: 6433", "listen.port: 6432 -> 6433, at a restart"),
    ("max_client_conn: 100", "max_client_conn: 7", "listen.max_client_conn: 100 -> 7, now"),
    (
        "first-secret",
        "second-secret",
        "auth.users.app.password: changed, for new connections",
    ),
    ("    gone: {password: x}\n", "", "auth.users.gone: removed, now"),
    (
        "    gone: {password: x}\n",
        "    gone: {password: x}\n    new: {password: y}\n",
        "auth.users.new: added, now",
    ),
    ("pool_size: 5", "pool_size: 6", "databases.shop.pool_size: 5 -> 6, now"),
    ("pool_size: 5", "pool_mode: session", None),
    ("  old: {cluster: main}\n", "", "databases.old: removed, now"),
    ("query_timeout: 5s", "query_timeout: 90", "limits.query_timeout: 5s -> 90s, now"),
    ("host: h2", "host: h3", "clusters.main.nodes.db2.host: h2 -> h3, now"),
    (
        "{name: db2, host: h2}",
        "{name: db2, host: h2}, {name: db3, host: h3}",
        "clusters.main.nodes.db3: added, now",
    ),
    ("limits:", "log: {level: debug}\nlimits:", "log.level: info -> debug, now"),
    (
        "limits:",
        "http: {port: 1}\nlimits:",
        "http: none -> {port: 1}, at a restart",
    ),
    (
        "limits:",
        "routes: [{match: {user: a}, to: replica}]\nlimits:",
        "routes: [] -> [{match: {user: a}, to: replica}], now",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), CHANGES)
def test_change_is_said_with_when_it_holds(
    old: str, new: str, said: str | None, read: Callable[..., Config]
) -> None:
    assert old in BEFORE
    changes = changes_between(read(BEFORE), read(BEFORE.replace(old, new)))
    lines = [str(each) for each in changes]
    if said is None:
        assert len(lines) == 2
    else:
        assert lines == [said]


def test_nothing_is_said_of_equal_configurations(read: Callable[..., Config]) -> None:
    assert changes_between(read(BEFORE), read(BEFORE)) == ()


def test_no_secret_is_said(read: Callable[..., Config]) -> None:
    after = BEFORE.replace("first-secret", "second-secret").replace(
        "password: p}", "password: third-secret}"
    )
    said = "\n".join(map(str, changes_between(read(BEFORE), read(after))))
    assert "secret" not in said.replace("Secret(", "")


def test_what_needs_a_restart_is_named(read: Callable[..., Config]) -> None:
    after = BEFORE.replace("6432", "6433") + "workers: 3\nprocess: {watch: true}\n"
    assert needs_restart(changes_between(read(BEFORE), read(after))) == ["listen.port", "workers"]


def leaves(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def replaced(section: BaseModel, path: tuple[str, ...], value: Any) -> BaseModel:
    head, *rest = path
    if rest:
        value = replaced(getattr(section, head), tuple(rest), value)
    return section.model_copy(update={head: value})


def test_no_key_is_overlooked(read: Callable[..., Config]) -> None:
    config = read(BEFORE)
    for path, value in leaves(config):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        after = replaced(config, path, value + 1 if is_number else f"not {value}")
        assert isinstance(after, Config)
        assert len(changes_between(config, after)) == 1, path
