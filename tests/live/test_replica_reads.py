"""Which replica answers, what happens when it cannot, and what operators and sessions may say."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.fixtures.console import AUTH, Console
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, DATABASE, Postgres, PostgresCluster

DEADLINE_S = 20.0
IN_RECOVERY = "select pg_is_in_recovery()"


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    """A table and functions of our own, and replicas that wait for nobody's query."""
    pg_replicated.primary.execute(
        "create table kept (id int primary key, value text);"
        "insert into kept select n, 'as it was' from generate_series(1, 100) n;"
        "create sequence counted;"
        "create function only_reads() returns bigint stable language sql"
        " as 'select count(*) from kept';"
        "create function says_nothing() returns int volatile language sql as 'select 1';"
        "create function claims_to_read() returns bigint stable language sql"
        " as $$select nextval('counted')$$;"
        "create view counting as select nextval('counted') as n;"
        f"grant all on kept, counting to {APP.name}; grant all on sequence counted to {APP.name}"
    )
    for node in pg_replicated.replicas:
        node.execute("alter system set max_standby_streaming_delay = '50ms'")
        node.execute("select pg_reload_conf()")
    pg_replicated.until_caught_up()
    yield pg_replicated
    for node in pg_replicated.replicas:
        node.execute("alter system reset max_standby_streaming_delay")
        node.execute("select pg_reload_conf()")
    pg_replicated.primary.execute(
        "drop view counting; drop table kept; drop sequence counted;"
        "drop function only_reads, says_nothing, claims_to_read"
    )
    pg_replicated.until_caught_up()


def config_of(cluster: PostgresCluster, **changes: Any) -> dict[str, Any]:
    """Three nodes of which the second has a role, and rules."""
    config = configuration(
        *cluster.nodes,
        auth=AUTH,
        clusters={"main": {"consistency": "session", "replicas": {"max_lag": "2s"}}},
        databases={DATABASE: {"read_write_split": True}},
        routes=[
            {"name": "no-truncate", "match": {"query": "^truncate"}, "reject": True},
            {"match": {"query": "^select .* from users"}, "to": "analytics"},
            {"match": {"table": "follows"}, "to": "primary"},
            {"match": {"application_name": "reports"}, "to": "analytics"},
            {"match": {"query": "pg_sleep.*limited"}, "timeout": "300ms"},
        ],
    )
    config["clusters"]["main"]["nodes"][1]["roles"] = ["analytics"]
    return merged(config, changes)


@pytest.fixture(scope="module")
def weir(cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with running(config_of(cluster), tmp_path_factory.mktemp("replicas")) as weir:
        wait_for_reads(weir)
        yield weir


def wait_for_reads(weir: Pgweir) -> None:
    """Wait until reads go to replicas."""
    weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        weir.wait_until(lambda: "replica" in went(weir, client, "select 1"), DEADLINE_S)


@pytest.fixture
def client(weir: Pgweir) -> Iterator[Any]:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        yield client


def counts(weir: Pgweir) -> dict[str, float]:
    """Statements answered by each node."""
    return {
        f"{node} {role}": weir.metric("pgweir_queries_total", node=node, role=role)
        for node, role in (("db1", "primary"), ("db2", "replica"), ("db3", "replica"))
    }


def went(weir: Pgweir, client: Any, text: str, *arguments: Any) -> str:
    """Where a statement goes: a node and its role."""
    before = counts(weir)
    client.execute(text, *arguments)
    after = counts(weir)
    return ", ".join(where for where in after if after[where] > before[where])


def routed(weir: Pgweir, target: str, reason: str) -> float:
    return weir.metric("pgweir_routed_total", target=target, reason=reason)


# --- functions and views -----------------------------------------------------------------------


def test_functions_are_judged_by_the_catalogue_of_the_database(weir: Pgweir, client: Any) -> None:
    assert "replica" in went(weir, client, "select only_reads()")
    assert "primary" in went(weir, client, "select says_nothing()")
    assert "primary" in went(weir, client, "select * from counting")


def test_a_function_that_is_new_is_known_soon(weir: Pgweir, client: Any) -> None:
    client.execute(
        "create or replace function newest() returns int stable language sql as 'select 5'"
    )
    weir.wait_until(lambda: "replica" in went(weir, client, "select newest()"), DEADLINE_S)
    client.execute("drop function newest()")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        client.execute("select newest()")


def test_what_claims_to_read_and_writes_is_run_by_the_primary(weir: Pgweir, client: Any) -> None:
    before = weir.metric("pgweir_reruns_total")
    first = client.execute("select claims_to_read()").fetchone()[0]
    assert client.execute("select claims_to_read() + %s", (0,)).fetchone()[0] == first + 1
    # Since that wrote, the second was for the primary anyhow.
    assert weir.metric("pgweir_reruns_total") == before + 1


# --- a second try ------------------------------------------------------------------------------


def in_background(run: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run()), daemon=True)
    thread.start()
    return thread, found


def wait_for_backend(nodes: tuple[Postgres, ...], marker: str) -> tuple[Postgres, int]:
    """Where a statement with this marker runs."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for node in nodes:
            pid = node.value(
                "select min(pid) from pg_stat_activity where state = 'active' and query like $1"
                " and pid <> pg_backend_pid()",
                f"%{marker}%",
            )
            if pid is not None:
                return node, pid
        time.sleep(0.02)
    raise AssertionError(f"no replica runs {marker}")


@pytest.mark.parametrize("prepared", [False, True])
def test_a_read_whose_connection_is_lost_is_run_again_unnoticed(
    weir: Pgweir, cluster: PostgresCluster, client: Any, prepared: bool
) -> None:
    before = weir.metric("pgweir_reruns_total")
    marker = f"lost{int(prepared)}"
    text = f"select pg_sleep(1.5) is null, 42 as {marker}"
    thread, found = in_background(
        lambda: client.execute(text, prepare=prepared, binary=prepared).fetchone()
    )
    node, pid = wait_for_backend(cluster.replicas, marker)
    node.execute(f"select pg_terminate_backend({pid})")
    thread.join(DEADLINE_S)
    assert found == [(False, 42)]
    assert weir.metric("pgweir_reruns_total") == before + 1
    assert routed(weir, "primary", "second_try") >= 1


def test_a_read_that_recovery_cancels_is_run_again_unnoticed(
    weir: Pgweir, cluster: PostgresCluster, client: Any
) -> None:
    before = weir.metric("pgweir_reruns_total")
    text = "select pg_sleep(2) is null, count(*), 7 as conflict from kept"
    thread, found = in_background(lambda: client.execute(text).fetchone())
    wait_for_backend(cluster.replicas, "conflict")
    cluster.primary.execute("begin; lock table kept in access exclusive mode; commit")
    thread.join(DEADLINE_S)
    assert found == [(False, 100, 7)]
    assert weir.metric("pgweir_reruns_total") == before + 1


def test_a_read_in_a_transaction_gets_the_error(
    weir: Pgweir, cluster: PostgresCluster, client: Any
) -> None:
    def read() -> str:
        try:
            with client.transaction():
                client.execute("set transaction read only")
                client.execute("/* pgweir: replica */ select pg_sleep(1.5), 8 as in_transaction")
        except psycopg.Error as error:
            return str(error.sqlstate)
        return ""

    client.execute("set pgweir.route = 'replica'")
    thread, found = in_background(read)
    node, pid = wait_for_backend(cluster.replicas, "in_transaction")
    node.execute(f"select pg_terminate_backend({pid})")
    thread.join(DEADLINE_S)
    assert found == ["08006"]


# --- rules and hints ---------------------------------------------------------------------------


def test_a_rule_sends_statements_to_a_role(weir: Pgweir, client: Any) -> None:
    for text in ("select count(*) from users", "SELECT handle\nFROM users LIMIT 1"):
        assert went(weir, client, text) == "db2 replica"
    assert routed(weir, "analytics", "rule") >= 2


def test_a_rule_sends_a_table_to_the_primary(weir: Pgweir, client: Any) -> None:
    assert went(weir, client, "select count(*) from follows") == "db1 primary"


def test_a_hint_names_a_role(weir: Pgweir, client: Any) -> None:
    for _ in range(3):
        assert went(weir, client, "/* pgweir: role=analytics */ select 1") == "db2 replica"


def test_a_session_can_name_a_role(weir: Pgweir, client: Any) -> None:
    client.execute("set pgweir.route = analytics")
    assert went(weir, client, IN_RECOVERY) == "db2 replica"


def test_a_rule_goes_by_the_application_s_name(weir: Pgweir, client: Any) -> None:
    client.execute("set application_name = 'reports'")
    for _ in range(3):
        assert went(weir, client, "select 1") == "db2 replica"
    client.execute("set application_name = 'shop'")
    weir.wait_until(lambda: went(weir, client, "select 1") == "db3 replica")


def test_a_rule_rejects_statements_by_its_name(client: Any) -> None:
    for text in ("truncate kept", "TRUNCATE kept", "/* x */ truncate\nkept"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-truncate"):
            client.execute(text)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-truncate"):
        client.execute("truncate kept", prepare=True, binary=True)
    assert client.execute("select count(*) from kept").fetchone() == (100,)


def test_a_rejection_ends_the_transaction_it_stands_in(client: Any) -> None:
    client.execute("begin")
    client.execute("select 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-truncate"):
        client.execute("truncate kept")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.execute("select 1")
    client.execute("rollback")
    assert client.execute("select 1").fetchone() == (1,)


def test_a_rule_limits_how_long_a_statement_takes(client: Any) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        client.execute("select pg_sleep(20), 1 as limited")
    assert client.execute("select 1").fetchone() == (1,)


def test_the_console_shows_where_requests_went_and_the_rules(weir: Pgweir, client: Any) -> None:
    client.execute("select 1")
    console = Console(weir)
    shown = console.one("ROUTED", database=DATABASE, target="replica", reason="read")
    assert shown["requests"] == routed(weir, "replica", "read")
    rule = console.one("ROUTES", name="no-truncate")
    assert (rule["match"], rule["settings"]) == ("query=^truncate", "reject=True")
    console.close()


# --- freshness ---------------------------------------------------------------------------------


def paused(cluster: PostgresCluster) -> Any:
    """Both replicas stop replaying within the block."""

    class Paused:
        def __enter__(self) -> None:
            for node in cluster.replicas:
                node.pause_replay()

        def __exit__(self, *_: object) -> None:
            for node in cluster.replicas:
                node.resume_replay()
            cluster.until_caught_up()

    return Paused()


def test_sessions_with_one_key_see_each_other_s_writes(
    weir: Pgweir, cluster: PostgresCluster, client: Any
) -> None:
    read = "select value from kept where id = 1"
    with psycopg.connect(weir.dsn(), autocommit=True) as other, paused(cluster):
        client.execute("set pgweir.consistency_key = 'user:42'")
        client.execute("update kept set value = 'by key' where id = 1")
        assert other.execute(f"/* pgweir: key=user:42 */ {read}").fetchone() == ("by key",)
        assert other.execute(read).fetchone() == ("as it was",)
        other.execute("set pgweir.consistency_key = 'user:42'")
        assert other.execute(read).fetchone() == ("by key",)
        other.execute("set pgweir.consistency_key = 'user:43'")
        assert other.execute(read).fetchone() == ("as it was",)
        other.execute("reset pgweir.consistency_key")
    client.execute("update kept set value = 'as it was' where id = 1")


def test_a_statement_s_own_key_marks_what_it_writes(
    weir: Pgweir, cluster: PostgresCluster, client: Any
) -> None:
    read = "select value from kept where id = 2"
    with psycopg.connect(weir.dsn(), autocommit=True) as other, paused(cluster):
        client.execute("/* pgweir: key=user:7 */ update kept set value = 'new' where id = 2")
        assert other.execute(f"/* pgweir: key=user:7 */ {read}").fetchone() == ("new",)
        assert other.execute(read).fetchone() == ("as it was",)
    client.execute("update kept set value = 'as it was' where id = 2")


def test_a_read_can_wait_for_a_replica_that_has_what_it_wrote(
    cluster: PostgresCluster, tmp_path: Any
) -> None:
    config = config_of(cluster)
    config["routes"] = []
    config["clusters"]["main"]["replicas"]["wait"] = "20s"
    with running(config, tmp_path) as weir:
        wait_for_reads(weir)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            with paused(cluster):
                client.execute("update kept set value = 'newer' where id = 4")
                before = counts(weir)
                thread, found = in_background(
                    lambda: client.execute("select value from kept where id = 4").fetchone()
                )
                thread.join(0.5)
                assert thread.is_alive()
            thread.join(DEADLINE_S)
            assert found == [("newer",)]
            after = counts(weir)
            assert after["db1 primary"] == before["db1 primary"]


def test_replicas_that_lag_leave_and_come_back(
    weir: Pgweir, cluster: PostgresCluster, client: Any
) -> None:
    with paused(cluster):

        def lags() -> bool:
            cluster.primary.execute("update kept set value = value where id = 3")
            return went(weir, client, "select 1") == "db1 primary"

        weir.wait_until(lags, DEADLINE_S)
        assert routed(weir, "primary", "no_replica") >= 1
    weir.wait_until(lambda: "replica" in went(weir, client, "select 1"), DEADLINE_S)


def test_several_replicas_share_the_reads(weir: Pgweir) -> None:
    clients = [psycopg.connect(weir.dsn(), autocommit=True) for _ in range(8)]

    def read(client: Any) -> None:
        for _ in range(10):
            client.execute("select pg_sleep(0.01)")

    def both_read() -> bool:
        before = counts(weir)
        threads = [threading.Thread(target=read, args=[each]) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = counts(weir)
        return all(
            after[f"{node} replica"] - before[f"{node} replica"] >= 10 for node in ("db2", "db3")
        )

    try:
        # One that was out of the rotation in the test before comes back after a while.
        weir.wait_until(both_read, DEADLINE_S)
    finally:
        for each in clients:
            each.close()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights": (1, 3), "balance": "round_robin"}, (10, 30)),
        ({"weights": (0, 1), "balance": "random"}, (0, 40)),
        ({"zones": ("here", "there"), "balance": "least_conn"}, (40, 0)),
    ],
)
def test_shares_go_by_weight_and_zone(
    cluster: PostgresCluster, tmp_path: Any, changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    config = config_of(cluster)
    config["routes"] = []
    nodes = config["clusters"]["main"]["nodes"]
    for node, weight in zip(nodes[1:], changes.get("weights", ()), strict=False):
        node["weight"] = weight
    for node, zone in zip(nodes[1:], changes.get("zones", ()), strict=False):
        node["zone"] = zone
    config["clusters"]["main"]["replicas"] |= {"balance": changes["balance"], "zone": "here"}
    config["databases"][DATABASE]["min_pool_size"] = 1
    with running(config, tmp_path) as weir:
        wait_for_reads(weir)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            open_to = sum(share > 0 for share in expected)
            weir.wait_until(
                lambda: (
                    sum(
                        weir.metric("pgweir_server_connections", node=node) > 0
                        for node in ("db2", "db3")
                    )
                    >= open_to
                )
            )
            before = counts(weir)
            for _ in range(40):
                client.execute("select 1")
            after = counts(weir)
    shares = tuple(after[f"{node} replica"] - before[f"{node} replica"] for node in ("db2", "db3"))
    assert sum(shares) == 40
    assert all(abs(share - wanted) <= 2 for share, wanted in zip(shares, expected, strict=True))


@pytest.mark.parametrize("otherwise", ["refuse", "wait"])
def test_without_a_replica_reads_do_what_is_configured(
    cluster: PostgresCluster, tmp_path: Any, otherwise: str
) -> None:
    config = config_of(cluster)
    config["clusters"]["main"]["nodes"][1:] = [{"name": "gone", "host": "127.0.0.1", "port": 1}]
    config["clusters"]["main"]["replicas"] |= {"otherwise": otherwise}
    config["routes"] = []
    config["limits"] = {"query_wait_timeout": "1s"}
    with (
        running(config, tmp_path) as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):

        def is_refused() -> bool:
            try:
                client.execute("select 1")
            except psycopg.Error as error:
                assert error.sqlstate == "08001"
                return True
            return False

        weir.wait_until(is_refused, DEADLINE_S)
        assert client.execute(IN_RECOVERY).fetchone() == (False,)
