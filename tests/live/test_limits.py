"""How many server connections there may be, and who gets the next one."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.faults.raw_client import RawClient, query, startup
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    MAX_CONNECTIONS,
    MD5_USER,
    PLAIN_USER,
    TRUST_USER,
    Postgres,
)

Start = Callable[..., Pgweir]


def login(weir: Pgweir, user: str = APP.name, database: str = DATABASE) -> RawClient:
    return RawClient.logged_in(weir.port, user, database)


def servers(weir: Pgweir, **labels: str) -> float:
    return weir.metric("pgweir_server_connections", **labels)


def waiting(weir: Pgweir, **labels: str) -> float:
    return weir.metric("pgweir_client_connections", state="waiting", **labels)


def hold(client: RawClient) -> RawClient:
    """Let the client keep a server connection."""
    client.ask("BEGIN")
    client.value("SELECT 1")
    return client


def answer(client: RawClient) -> bytes | None:
    """The first value of what the client is told next."""
    return next(each.columns for each in client.read_until(b"Z") if each.kind == b"D")[0]


# --- the reserve ---------------------------------------------------------------------------------


@pytest.fixture
def start(pg18: Postgres, start_pgweir: Start) -> Start:
    """Start a proxy that asks for no password; the named limits hold for its database."""

    def start_open(**limits: object) -> Pgweir:
        return start_pgweir(pg18, auth={"method": "trust"}, databases={DATABASE: limits})

    return start_open


def test_a_client_that_has_waited_long_enough_gets_a_connection_of_the_reserve(
    start: Start,
) -> None:
    weir = start(pool_size=1, reserve_pool_size=2, reserve_pool_timeout="200ms")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(login(weir)) for _ in range(4)]
        hold(clients[0])
        for each in clients[1:3]:
            hold(each)
        clients[3].send(query("SELECT 'fourth'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        assert servers(weir) == 3
        clients[0].ask("COMMIT")
        assert answer(clients[3]) == b"fourth"
        for each in clients[1:3]:
            each.ask("COMMIT")
        weir.wait_until(lambda: servers(weir) == 1)


def test_without_reserve_pool_timeout_the_reserve_is_left_alone(start: Start) -> None:
    limits = {"reserve_pool_size": 1, "reserve_pool_timeout": 0, "query_wait_timeout": "1s"}
    weir = start(pool_size=1, **limits)
    with login(weir) as holder, login(weir) as other:
        hold(holder)
        assert other.error("SELECT 'in vain'") == "08001"
        assert servers(weir) == 1


# --- limits that pools share ---------------------------------------------------------------------

LIMIT = 4
# Of every node, as PostgreSQL is started: superuser_reserved_connections.
RESERVED = 3


class Rivals(NamedTuple):
    """A database and a user each, whose pools meet at one limit and no other."""

    one: tuple[str, str]
    two: tuple[str, str]


RIVALS = {
    "max_db_connections": Rivals(("by_database", APP.name), ("by_database", PLAIN_USER.name)),
    "max_user_connections": Rivals(("user_one", TRUST_USER.name), ("user_two", TRUST_USER.name)),
    "declared max_connections": Rivals(("declared", APP.name), ("declared", PLAIN_USER.name)),
    "discovered max_connections": Rivals(("found_one", APP.name), ("found_two", APP.name)),
}


@pytest.fixture(scope="module")
def shared(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """One proxy with four limits of four connections; each is met by two pools."""
    config = configuration(pg18, auth={"method": "trust"}, limits={"pool_size": 10})
    main = config["clusters"]["main"]
    node = main["nodes"][0]
    config["clusters"] |= {
        "declared": {**main, "nodes": [{**node, "max_connections": LIMIT}]},
        "found": {**main, "spare_connections": MAX_CONNECTIONS - RESERVED - LIMIT},
    }
    config["auth"]["users"] = {
        APP.name: {"password": APP.password},
        PLAIN_USER.name: {"password": PLAIN_USER.password},
        MD5_USER.name: {"password": MD5_USER.password, "max_user_connections": 1},
        TRUST_USER.name: {"password": "any", "max_user_connections": LIMIT},
    }
    places: dict[str, dict[str, Any]] = {
        "by_database": {"cluster": "main", "max_db_connections": LIMIT},
        "replicated": {"cluster": "main", "max_db_connections": 1, "query_wait_timeout": "1s"},
        "user_one": {"cluster": "main"},
        "user_two": {"cluster": "main"},
        "missing": {"cluster": "main", "dbname": "there_is_no_such_database"},
        "declared": {"cluster": "declared"},
        "found_one": {"cluster": "found"},
        "found_two": {"cluster": "found"},
    }
    config["databases"] = {name: {"dbname": DATABASE, **each} for name, each in places.items()}
    with running(config, tmp_path_factory.mktemp("limits")) as weir:
        yield weir


@pytest.fixture(params=RIVALS.values(), ids=RIVALS.keys())
def rivals(request: pytest.FixtureRequest, shared: Pgweir) -> Rivals:
    """Two pools at one limit, neither of which anybody uses; idle connections there may be."""
    found: Rivals = request.param
    for database, user in found:
        shared.wait_until(
            lambda database=database, user=user: (  # type: ignore[misc]
                shared.metric("pgweir_client_connections", database=database, user=user) == 0
            )
        )
    return found


def enter(weir: Pgweir, side: tuple[str, str], stack: contextlib.ExitStack) -> RawClient:
    database, user = side
    return stack.enter_context(login(weir, user, database))


def of(side: tuple[str, str]) -> dict[str, str]:
    return {"database": side[0], "user": side[1]}


def test_at_a_limit_the_next_waits_until_a_transaction_ends(shared: Pgweir, rivals: Rivals) -> None:
    with contextlib.ExitStack() as stack:
        holders = [hold(enter(shared, rivals.one, stack)) for _ in range(LIMIT - 1)]
        holders.append(hold(enter(shared, rivals.two, stack)))
        waiter = enter(shared, rivals.two, stack)
        waiter.send(query("SELECT 'served'"))
        shared.wait_until(lambda: waiting(shared, **of(rivals.two)) == 1)
        assert sum(servers(shared, **of(side)) for side in rivals) == LIMIT
        shared.wait_for_log("a limit on server connections is reached")
        holders[0].ask("COMMIT")
        assert answer(waiter) == b"served"
        assert sum(servers(shared, **of(side)) for side in rivals) <= LIMIT


def test_at_a_limit_an_idle_connection_of_another_pool_makes_room(
    shared: Pgweir, rivals: Rivals
) -> None:
    with contextlib.ExitStack() as stack:
        holders = [hold(enter(shared, rivals.one, stack)) for _ in range(LIMIT)]
        for each in holders:
            each.ask("COMMIT")
        assert servers(shared, state="idle", **of(rivals.one)) == LIMIT
        assert enter(shared, rivals.two, stack).value("SELECT 'served'") == "served"
        assert servers(shared, **of(rivals.one)) == LIMIT - 1


@pytest.mark.parametrize("cluster", ["declared", "found"])
def test_the_limit_of_a_node_is_a_metric(shared: Pgweir, cluster: str) -> None:
    # Known as soon as the node has been probed.
    shared.wait_until(
        lambda: shared.metric("pgweir_server_connections_limit", cluster=cluster) == LIMIT
    )


def test_a_greedy_pool_leaves_the_other_its_share(shared: Pgweir, rivals: Rivals) -> None:
    """Fifty clients that never pause, against two: they share by halves."""
    with contextlib.ExitStack() as stack:
        greedy = [enter(shared, rivals.one, stack) for _ in range(50)]
        over = threading.Event()

        def work(client: RawClient) -> None:
            while not over.is_set():
                client.value("SELECT pg_sleep(0.01)")

        threads = [threading.Thread(target=work, args=(each,)) for each in greedy]
        for each in threads:
            each.start()
        try:
            shared.wait_until(lambda: servers(shared, state="active", **of(rivals.one)) == LIMIT)
            modest = [enter(shared, rivals.two, stack) for _ in range(2)]
            for each in modest:
                hold(each)
            assert servers(shared, state="active", **of(rivals.two)) == 2
            assert servers(shared, **of(rivals.one)) == 2
            for each in modest:
                each.ask("COMMIT")
            assert modest[0].value("SELECT 'again'") == "again"
        finally:
            over.set()
            for each in threads:
                each.join()


def test_more_pools_than_connections_take_turns(shared: Pgweir) -> None:
    """Two databases of a user who may have one connection; neither ever pauses."""
    counts = {"user_one": 0, "user_two": 0}
    over = threading.Event()

    def work(database: str) -> None:
        with login(shared, MD5_USER.name, database) as client:
            while not over.is_set():
                client.value("SELECT pg_sleep(0.01)")
                counts[database] += 1

    threads = [threading.Thread(target=work, args=(each,)) for each in counts for _ in range(3)]
    for each in threads:
        each.start()
    try:
        shared.wait_until(lambda: min(counts.values()) >= 10)
        assert servers(shared, user=MD5_USER.name) <= 1
    finally:
        over.set()
        for each in threads:
            each.join()


def test_a_replication_connection_counts_and_is_refused_at_a_limit(
    pg18: Postgres, shared: Pgweir
) -> None:
    pg18.execute(f"ALTER ROLE {PLAIN_USER.name} REPLICATION")

    def begin() -> RawClient:
        client = RawClient(shared.port)
        client.send(startup(user=PLAIN_USER.name, database="replicated", replication="database"))
        return client

    try:
        with begin() as first:
            first.read_welcome()
            with begin() as second:
                *_, last = second.read_to_end()
                assert last.fields["C"] == "53300"
            assert first.ask("IDENTIFY_SYSTEM")[-1].kind == b"Z"
        with begin() as third:
            third.read_welcome()
    finally:
        pg18.execute(f"ALTER ROLE {PLAIN_USER.name} NOREPLICATION")


def test_a_connection_that_never_came_takes_no_room(shared: Pgweir) -> None:
    with RawClient(shared.port) as refused:
        refused.send(startup(user=MD5_USER.name, database="missing"))
        *_, last = refused.read_to_end()
        assert last.fields["C"] == "3D000"
    with login(shared, MD5_USER.name, "user_one") as client:
        assert client.value("SELECT 'in'") == "in"


def reload(weir: Pgweir, folder: Path, config: dict[str, Any]) -> None:
    next(folder.glob("pgweir-*.yaml")).write_text(yaml.safe_dump(config))
    seen = len(weir.log)
    weir.send(signal.SIGHUP)
    weir.wait_for_log(" reloaded ", since=seen)


def test_a_pool_made_smaller_by_a_reload_closes_what_it_has_too_many(
    pg18: Postgres, tmp_path: Path
) -> None:
    """Although its clients never leave a connection idle."""
    config = configuration(pg18, auth={"method": "trust"}, databases={DATABASE: {"pool_size": 3}})
    with running(config, tmp_path) as weir:
        over = threading.Event()

        def work() -> None:
            with login(weir) as client:
                while not over.is_set():
                    client.value("SELECT pg_sleep(0.01)")

        threads = [threading.Thread(target=work) for _ in range(9)]
        for each in threads:
            each.start()
        try:
            weir.wait_until(lambda: servers(weir, state="active") == 3)
            config["databases"][DATABASE]["pool_size"] = 1
            reload(weir, tmp_path, config)
            weir.wait_until(lambda: servers(weir) == 1)
        finally:
            over.set()
            for each in threads:
                each.join()


def test_limits_that_are_raised_or_lowered_hold_after_a_reload(
    pg18: Postgres, tmp_path: Path
) -> None:
    config = configuration(
        pg18, auth={"method": "trust"}, databases={DATABASE: {"max_db_connections": 1}}
    )

    with contextlib.ExitStack() as stack:
        weir = stack.enter_context(running(config, tmp_path))
        clients = [stack.enter_context(login(weir)) for _ in range(3)]
        hold(clients[0])
        clients[1].send(query("BEGIN") + query("SELECT 'raised'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        config["databases"][DATABASE]["max_db_connections"] = 2
        reload(weir, tmp_path, config)
        clients[1].read_until(b"Z")
        assert answer(clients[1]) == b"raised"
        config["databases"][DATABASE]["max_db_connections"] = 1
        reload(weir, tmp_path, config)
        clients[0].ask("COMMIT")
        weir.wait_until(lambda: servers(weir) == 1)
