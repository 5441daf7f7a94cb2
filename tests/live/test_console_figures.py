"""What SHOW shows is what was done."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from proxy.console.commands import COMMANDS
from tests.fixtures.console import ADMIN, AUTH, LOOKER, Console
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, MONITOR, Postgres

LIMIT_S = 20.0
SHOWS = [command.words[1] for command in COMMANDS if command.read is not None]


def stats(console: Console) -> dict[str, int]:
    """The totals of the database so far."""
    rows = console.show("STATS_TOTALS", database="twin")
    empty = dict.fromkeys(console.show("STATS_TOTALS")[0], 0)
    row = rows[0] if rows else empty
    return {name: int(value) for name, value in row.items() if name != "database"}


def test_counters_are_those_of_what_was_sent(manned: Pgweir, console: Console) -> None:
    before = stats(console)
    with psycopg.connect(manned.dsn(database="twin"), autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT 1")
        with connection.transaction():
            connection.execute("SELECT pg_sleep(0.05)")
            connection.execute("SELECT 2")
        for number in range(4):
            connection.execute("SELECT %s::int", [number], prepare=True)
    after = stats(console)
    done = {name: after[name] - before[name] for name in after}
    # The driver prepares in a unit of its own, which is a transaction to PgBouncer, too.
    assert done["xact_count"] == 3 + 1 + 1 + 4
    # BEGIN alone is answered here.
    assert done["query_count"] == 3 + 3 + 4
    assert done["server_assignment_count"] == done["xact_count"]
    assert (done["client_parse_count"], done["server_parse_count"], done["bind_count"]) == (1, 1, 4)
    assert done["bytes_received"] > 150
    assert done["bytes_sent"] > 600
    assert 50_000 < done["query_time"] < 60_000_000
    assert done["query_time"] <= done["xact_time"]


def test_units_that_are_sent_together_have_durations_of_their_own(
    manned: Pgweir, console: Console
) -> None:
    before = stats(console)
    with psycopg.connect(manned.dsn(database="twin")) as connection, connection.pipeline():
        for _ in range(20):
            connection.execute("SELECT 1")
            connection.commit()
    after = stats(console)
    # Once it was the machine's uptime for all but the first.
    assert after["query_time"] - before["query_time"] < 60_000_000


def test_who_waits_is_seen_waiting(manned: Pgweir, console: Console) -> None:
    before = stats(console)
    holders = [psycopg.connect(manned.dsn(database="twin")) for _ in range(3)]
    for each in holders:
        each.execute("SELECT 1")
    with psycopg.connect(manned.dsn(database="twin")) as late, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(late.execute, "SELECT 1")
        manned.wait_until(lambda: console.show("POOLS", database="twin", cl_waiting=1) != [])
        row = console.one("POOLS", database="twin")
        assert (row["cl_active"], row["sv_active"], row["sv_idle"]) == (3, 3, 0)
        assert row["pool_mode"] == "transaction"
        (client,) = console.show("CLIENTS", database="twin", state="waiting")
        assert (client["link"], client["user"]) == ("", APP.name)
        manned.wait_until(lambda: console.one("CLIENTS", id=client["id"])["wait_us"] > 0, LIMIT_S)
        holders[0].close()
        waiting.result(LIMIT_S)
    for each in holders[1:]:
        each.close()
    assert stats(console)["wait_time"] > before["wait_time"]


def test_clients_and_servers_are_linked(manned: Pgweir, console: Console) -> None:
    with psycopg.connect(manned.dsn(database="twin"), application_name="shop") as connection:
        backend = connection.execute("SELECT pg_backend_pid()").fetchone()
        client = console.one("CLIENTS", application_name="shop")
        server = console.one("SERVERS", link=client["ptr"])
        assert (client["type"], client["state"], client["database"]) == ("C", "active", "twin")
        assert client["link"] == server["ptr"]
        assert (client["addr"], client["local_port"]) == ("127.0.0.1", manned.port)
        assert (server["type"], server["state"], server["database"]) == ("S", "active", "twin")
        assert backend == (server["remote_pid"],)
        assert (server["node"], server["role"], server["cluster"]) == ("db1", "primary", "main")
        assert server["application_name"] == "shop"
        connection.commit()
        manned.wait_until(lambda: console.one("SERVERS", ptr=server["ptr"])["state"] == "idle")
        assert console.one("CLIENTS", application_name="shop")["state"] == "idle"
        states = {row["state"] for row in console.show("SOCKETS", database="twin")}
        assert states == {"cl_active", "sv_idle"}


def test_the_node_is_shown_as_the_monitor_sees_it(manned: Pgweir, console: Console) -> None:
    manned.wait_until(lambda: console.show("NODES", role="primary") != [])
    node = console.one("NODES")
    assert (node["name"], node["cluster"], node["state"]) == ("db1", "main", "up")
    assert node["timeline"] >= 1
    assert "/" in node["replay_lsn"]
    assert node["reason"]


def test_databases_users_and_lists_agree(manned: Pgweir, console: Console) -> None:
    with psycopg.connect(manned.dsn(database="twin")) as connection:
        connection.execute("SELECT 1")
        row = console.one("DATABASES", name="twin")
        assert (row["database"], row["pool_size"], row["cluster"]) == (DATABASE, 3, "main")
        assert row["current_client_connections"] == 1
        assert row["current_connections"] >= 1
        user = console.one("USERS", name=APP.name)
        assert user["current_client_connections"] == 1
        lists = {row["list"]: row["items"] for row in console.show("LISTS")}
        assert lists["databases"] == len(console.show("DATABASES"))
        assert lists["used_clients"] == len(console.show("CLIENTS"))
        assert lists["used_servers"] == len(console.show("SERVERS"))
        assert lists["users"] == len(console.show("USERS"))
        memory = {row["name"]: row for row in console.show("MEM")}
        assert memory["client_cache"]["used"] == lists["used_clients"]
        assert memory["process"]["memtotal"] > 10_000_000


def test_totals_are_the_sum_of_all_databases(console: Console) -> None:
    totals = {row["name"]: int(row["value"]) for row in console.show("TOTALS")}
    rows = console.show("STATS")
    for name in ("total_wait_time", "total_xact_time", "total_query_time", "total_bind_count"):
        assert totals[name.replace("bind", "ps_bind")] == sum(int(row[name]) for row in rows)
    # The second question was one more.
    assert totals["total_query_count"] + 1 == sum(int(row["total_query_count"]) for row in rows)


def test_top_queries_and_events_are_shown(manned: Pgweir, console: Console) -> None:
    with psycopg.connect(manned.dsn(database="twin"), autocommit=True) as connection:
        connection.execute("SELECT 4711 AS question, pg_sleep(0.15)")
    manned.wait_until(
        lambda: any("question" in row["query"] for row in console.show("QUERIES")), LIMIT_S
    )
    (row,) = (row for row in console.show("QUERIES") if "question" in row["query"])
    assert "4711" not in row["query"]
    assert (row["database"], row["calls"], row["rows"]) == ("twin", 1, 1)
    assert row["mean_ms"] >= 150
    assert row["target"] == "db1=1"
    console.do("RECONNECT twin")
    (event, *_) = console.show("EVENTS")
    assert (event["kind"], event["facts"]) == ("pause", "database=twin")
    assert {row["source"] for row in console.show("EVENTS")} <= {
        "pgweir",
        "pgweir.cluster",
        "pgweir.console",
        "pgweir.failover",
    }


def test_who_keeps_a_server_connection_is_shown_with_the_reason(
    manned: Pgweir, console: Console
) -> None:
    with psycopg.connect(manned.dsn(database="twin"), autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE mine (id int)")
        manned.wait_until(lambda: console.show("PINS") != [])
        pin = console.one("PINS")
        assert (pin["database"], pin["user"], pin["node"]) == ("twin", APP.name, "db1")
        assert "temporary" in pin["reason"]
        assert "CREATE TEMP TABLE mine" in pin["statement"]
        assert pin["since"].endswith(" UTC")
        assert console.one("CLIENTS", pinned="yes")["database"] == "twin"
        connection.execute("DROP TABLE mine")
        manned.wait_until(lambda: console.show("PINS") == [])


def test_averages_follow_what_goes_on(manned: Pgweir, console: Console) -> None:
    with psycopg.connect(manned.dsn(database="twin"), autocommit=True) as connection:
        connection.execute("SELECT pg_sleep(0.05)")
    row = console.one("STATS_AVERAGES", database="twin")
    assert int(row["query_time"]) > 0
    assert console.one("STATS", database="twin")["avg_query_time"] is not None


def test_no_secret_is_shown(pg18: Postgres, tmp_path: Path) -> None:
    """Whatever is configured as a secret: no SHOW has it, and no error either."""
    secrets = {
        "server": "server-geheim",
        "query": "query-geheim",
        "old": "old-geheim",
        "command": "geheim-in-a-command",
    }
    config = configuration(
        pg18,
        auth={
            **AUTH,
            "users": {
                **AUTH["users"],
                "aged": {"password": "aged-geheim", "old_password": secrets["old"]},
            },
            "query_user": "finder",
            "query_password": secrets["query"],
        },
        databases={
            "elsewhere": {
                "cluster": "main",
                "server": {"user": "other", "password": secrets["server"]},
            },
            "by_command": {
                "cluster": "main",
                "server": {"user": "other", "password_command": ["echo", secrets["command"]]},
            },
        },
    )
    known = [*secrets.values(), APP.password, ADMIN.password, LOOKER.password, MONITOR.password]
    with running(config, tmp_path) as weir:
        console = Console(weir)
        with psycopg.connect(weir.dsn()) as connection:
            connection.execute("SELECT 1")
            shown = "\n".join(str(console.show(what)) for what in SHOWS)
        for text in ("SET auth.query_password = x", "SET clusters.main.server.password = x"):
            with pytest.raises(psycopg.Error) as refused:
                console.do(text)
            shown += str(refused.value) + str(refused.value.diag.message_detail)
        console.close()
    assert "auth.users.app.password" in shown
    assert [secret for secret in known if secret in shown] == []
    assert "********" in shown
