"""What `routes` may look at beside queries, tables and names: who asks, and fingerprints."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest

from proxy.embedded import Login
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, PLAIN_USER, PostgresCluster
from tests.live.conversation import Wire, address_of, query, startup

NODES = ("db1", "db2", "db3")
COUNTED = "select count(*) from users where handle > 'somebody'"


def fingerprint_of(sql: str) -> str:
    """As an operator finds it out."""
    said = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "--sql", sql],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"fingerprint: (\w+)", said)
    assert found is not None, said
    return found[1]


@pytest.fixture(scope="module")
def weir(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    """Only what a rule sends to the second node goes there."""
    config = configuration(
        *pg_replicated.nodes,
        auth={"users": {each.name: {"password": each.password} for each in (APP, PLAIN_USER)}},
        log={"level": "info"},
        databases={
            DATABASE: {"read_write_split": True},
            "reports": {"cluster": "main", "dbname": DATABASE, "read_write_split": True},
        },
        routes=[
            {"match": {"user": PLAIN_USER.name}, "to": "marked"},
            {"match": {"database": "reports"}, "to": "marked"},
            {"match": {"address": "127.0.0.32/28"}, "to": "marked"},
            {"name": "seen", "match": {"fingerprint": fingerprint_of(COUNTED)}, "log": True},
            {"match": {"fingerprint": fingerprint_of(COUNTED)}, "to": "marked"},
        ],
    )
    second = config["clusters"]["main"]["nodes"][1]
    second["roles"] = ["marked"]
    # Weight 0 gets no reads but those of its role.
    second["weight"] = 0
    with running(config, tmp_path_factory.mktemp("routes")) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == len(NODES))
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            weir.wait_until(lambda: went(weir, lambda: client.execute("select 1")) == "db3", 20.0)
        yield weir


def went(weir: Pgweir, ask: Callable[[], object]) -> str:
    """Which node answers."""
    before = [weir.metric("pgweir_queries_total", node=node) for node in NODES]
    ask()
    after = [weir.metric("pgweir_queries_total", node=node) for node in NODES]
    return ", ".join(n for n, a, b in zip(NODES, after, before, strict=True) if a > b)


@pytest.mark.parametrize(
    ("user", "database", "node"),
    [(APP, DATABASE, "db3"), (PLAIN_USER, DATABASE, "db2"), (APP, "reports", "db2")],
)
def test_a_rule_goes_by_user_and_database(
    weir: Pgweir, user: Login, database: str, node: str
) -> None:
    dsn = weir.dsn(user.name, user.password, database)
    with psycopg.connect(dsn, autocommit=True) as client:
        weir.wait_until(lambda: went(weir, lambda: client.execute("select 1")) == node, 20.0)
        for prepared in (False, True):
            assert went(weir, partial(client.execute, "select 2", prepare=prepared)) == node


@pytest.mark.parametrize(
    ("source", "node"),
    [("127.0.0.1", "db3"), ("127.0.0.33", "db2"), ("127.0.0.47", "db2"), ("127.0.0.48", "db3")],
)
def test_a_rule_goes_by_the_client_s_address(weir: Pgweir, source: str, node: str) -> None:
    sock = socket.create_connection((weir.host, weir.port), 10, source_address=(source, 0))
    with Wire(sock) as client:
        client.send(startup({"user": APP.name, "database": DATABASE}))
        client.log_in(address_of(weir))
        assert went(weir, lambda: client.ask(query("select 1"))) == node


def test_a_rule_goes_by_the_fingerprint_and_may_log(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        for name in ("somebody", "somebody else"):
            since = len(weir.log)
            text = f"SELECT count(*)  FROM users /* any */ WHERE handle > '{name}'"
            assert went(weir, partial(client.execute, text.encode())) == "db2"
            weir.wait_for_log("rule met.*rule=seen", since=since)
        other = "select count(*) from users where handle < 'somebody'"
        assert went(weir, lambda: client.execute(other)) == "db3"
