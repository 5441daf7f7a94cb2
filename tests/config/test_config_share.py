"""What of a configuration each of several processes has."""

from collections.abc import Callable

import pytest

from proxy.config import Config, divide, part_of

TEXT = """\
auth: {users: {app: {password: x, max_user_connections: 5}}}
clusters:
  main:
    nodes: [{name: db1, host: h1, max_connections: 90}, {name: db2, host: h2}]
    monitor: {user: m}
    failover: {mode: promote}
databases: {shop: {cluster: main, pool_size: 7}, "*": {cluster: main}}
limits: {pool_size: 20, reserve_pool_size: 2, max_db_client_connections: 50}
"""


@pytest.mark.parametrize("whole", [0, 1, 3, 4, 20, 21, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 16])
def test_parts_are_the_whole_unless_it_is_smaller_than_their_number(whole: int, count: int) -> None:
    parts = [divide(whole, index, count) for index in range(count)]
    assert sum(parts) == max(whole, count if whole else 0)
    assert max(parts) - min(parts) <= 1


def test_no_limit_stays_no_limit() -> None:
    assert divide(0, 0, 4) == 0


def test_limits_on_server_connections_are_divided(read: Callable[..., Config]) -> None:
    first, second, third = (part_of(read(TEXT), index, 3) for index in range(3))
    assert [each.limits.pool_size for each in (first, second, third)] == [7, 7, 6]
    assert [each.databases["shop"].pool_size for each in (first, second, third)] == [3, 2, 2]
    assert [each.limits.reserve_pool_size for each in (first, second, third)] == [1, 1, 0]
    assert [each.auth.users["app"].max_user_connections for each in (first, third)] == [2, 1]
    assert first.databases["*"].pool_size is None
    nodes = first.clusters["main"].nodes
    assert [node.max_connections for node in nodes] == [30, None]


def test_limits_on_clients_are_not(read: Callable[..., Config]) -> None:
    assert part_of(read(TEXT), 0, 3).limits.max_db_client_connections == 50


def test_each_process_may_promote(read: Callable[..., Config]) -> None:
    modes = [part_of(read(TEXT), index, 3).clusters["main"].failover.mode for index in range(3)]
    assert modes == ["promote"] * 3


def test_who_is_alone_has_all_of_it(read: Callable[..., Config]) -> None:
    config = read(TEXT)
    assert part_of(config, 0, 1) is config
