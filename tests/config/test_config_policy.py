"""Which value holds for a user in a database."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from proxy.config import Config, Database, Limits, Overrides, Policy, User

TEXT = """\
auth:
  users:
    app: {password: a, pool_mode: session, query_timeout: 5}
    reporting: {password: r}
clusters:
  main:
    nodes: [{host: h1, roles: [analytics]}]
    server: {user: pool, password: p, tls: {mode: require}}
  other:
    nodes: [{host: h2}]
databases:
  shop: {cluster: main, dbname: shop_v2, pool_mode: statement, pool_size: 7, query_timeout: 9}
  feed: {cluster: main, share_unnamed: true, server: {user: feed, password: f}}
  same: {cluster: main, server: {password: q, tls: {mode: disable}}}
  locked: {cluster: main, server: {user: nopass}}
  "*": {cluster: other}
limits: {pool_size: 4, min_pool_size: 6, query_wait_timeout: 1500ms}
routes:
  - {match: {query: ^select, user: app}, to: analytics}
  - {match: {table: t}, to: analytics}
  - {match: {user: reporting, database: shop}, to: analytics}
  - {match: {user: reporting}, to: replica}
  - {match: {database: feed}, to: primary}
  - {match: {database: feed, user: app}, to: replica}
"""


@pytest.fixture
def config(read: Callable[..., Config]) -> Config:
    return read(TEXT.replace("min_pool_size: 6, ", ""))


def policy(config: Config, database: str, user: str) -> Policy:
    found = config.policy(database, user)
    assert found is not None
    return found


def test_user_wins_over_database_and_database_over_limits(config: Config) -> None:
    found = policy(config, "shop", "app")
    values = (found.pool_mode, found.query_timeout, found.pool_size, found.query_wait_timeout)
    assert values == ("session", 5.0, 7, 1.5)


def test_database_wins_for_a_user_who_sets_nothing(config: Config) -> None:
    found = policy(config, "shop", "reporting")
    assert (found.pool_mode, found.query_timeout) == ("statement", 9.0)


def test_user_nobody_listed_has_what_the_database_has(config: Config) -> None:
    assert policy(config, "shop", "stranger").pool_mode == "statement"


def test_zero_of_a_user_wins_like_any_number(read: Callable[..., Config]) -> None:
    text = TEXT.replace("min_pool_size: 6, ", "").replace("query_timeout: 5", "query_timeout: 0")
    assert policy(read(text), "shop", "app").query_timeout == 0.0


def test_any_other_name_is_passed_through(config: Config) -> None:
    found = policy(config, "unheard_of", "app")
    assert (found.cluster, found.dbname, found.database) == ("other", "unheard_of", "unheard_of")


def test_database_may_have_another_name_on_the_nodes(config: Config) -> None:
    assert policy(config, "shop", "app").dbname == "shop_v2"


def test_database_nobody_listed_has_no_policy(read: Callable[..., Config]) -> None:
    config = read("clusters: {m: {nodes: [{host: h}]}}\ndatabases: {d: {cluster: m}}\n")
    assert config.policy("e", "app") is None


@pytest.mark.parametrize(
    ("database", "login"),
    [
        ("shop", ("pool", "p", "require")),
        ("feed", ("feed", "f", "require")),
        ("same", ("pool", "q", "disable")),
        ("locked", ("nopass", None, "require")),
        ("unheard_of", (None, None, "prefer")),
    ],
)
def test_login_to_the_node(
    config: Config, database: str, login: tuple[str | None, str | None, str]
) -> None:
    found = policy(config, database, "app")
    assert (found.server_user, found.server_password, found.server_tls.mode) == login


@pytest.mark.parametrize(
    ("database", "user", "target"),
    [
        ("shop", "reporting", "analytics"),
        ("feed", "reporting", "replica"),
        ("feed", "app", "primary"),
        ("shop", "app", "primary"),
        ("unheard_of", "reporting", "replica"),
    ],
)
def test_first_route_about_the_session_wins(
    config: Config, database: str, user: str, target: str
) -> None:
    assert policy(config, database, user).target == target


def test_pool_keeps_no_more_than_it_may_open(read: Callable[..., Config]) -> None:
    text = TEXT.replace("pool_size: 4, min_pool_size: 6", "pool_size: 8, min_pool_size: 8")
    found = policy(read(text), "shop", "app")
    assert (found.pool_size, found.min_pool_size) == (7, 7)


def test_every_limit_can_be_overridden() -> None:
    of_database, of_user = set(Database.model_fields), set(User.model_fields)
    shared = set(Overrides.model_fields)
    assert [name for name in Limits.model_fields if name not in of_database | of_user] == []
    assert {name for name in Limits.model_fields if name in of_database & of_user} == shared


def test_a_limit_about_a_whole_database_is_not_the_users_to_set(
    read: Callable[..., Config],
) -> None:
    text = TEXT.replace("min_pool_size: 6, ", "max_db_connections: 50, max_user_connections: 60, ")
    text = text.replace("pool_size: 7", "pool_size: 7, max_db_connections: 5")
    text = text.replace("{password: r}", "{password: r, max_user_connections: 6}")
    found = policy(read(text), "shop", "reporting")
    assert (found.max_db_connections, found.max_user_connections) == (5, 6)
    found = policy(read(text), "feed", "app")
    assert (found.max_db_connections, found.max_user_connections) == (50, 60)


def test_every_limit_is_in_the_policy() -> None:
    assert set(Limits.model_fields) <= {field.name for field in fields(Policy)}


def test_policy_does_not_show_a_password(config: Config) -> None:
    assert "Secret(********)" in repr(policy(config, "feed", "app"))


def test_monitor_logs_in_as_the_server_does_unless_it_has_a_user(
    read: Callable[..., Config],
) -> None:
    text = """\
clusters:
  a: {nodes: [{host: h}], server: {user: s, password: p}, monitor: {user: m, password: q}}
  b: {nodes: [{host: h}], server: {user: s, password: p}}
  c: {nodes: [{host: h}]}
databases: {d: {cluster: a}}
"""
    clusters = read(text).clusters
    logins = [clusters[name].monitor_login for name in "abc"]
    assert logins == [("m", "q"), ("s", "p"), ("postgres", None)]
