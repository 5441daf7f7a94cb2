"""A read that a replica fails is run by the primary, as long as nothing of its reply was sent on.

The replica's place is taken by a script, so that it fails in every way there is; the primary is
a real one.
"""

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from tests.faults.wire import (
    Scripted,
    message,
    ready,
    row,
    row_description,
    wire_to,
)
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, MONITOR, Postgres, PostgresCluster
from tests.live.conversation import (
    SYNC,
    address_of,
    bind,
    describe_portal,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
    rows_of,
)
from tests.live.conversation import Wire as Client

SQL = "select 42 as of_the_primary"
SIMPLE = query(SQL)
EXTENDED = parse(SQL) + bind() + describe_portal() + execute() + SYNC
PROTOCOLS = pytest.mark.parametrize("asked", [SIMPLE, EXTENDED], ids=["simple", "extended"])
PARSED = message(b"1") + message(b"2") + row_description("of_the_primary")


class Replica:
    """Says it is a replica, and fails what is asked of it.

    sqlstate, severity: of its error; "" closes the connection without a word. rows: sent before it,
    which comes once they are read. refuses: new connections hear the error in place of a login.
    """

    def __init__(self) -> None:
        self.sqlstate, self.severity = "", "ERROR"
        self.rows = 0
        self.is_read = threading.Event()
        self.refuses = threading.Event()
        self.asked = 0

    def __call__(self, server: Scripted) -> None:
        if self.refuses.is_set():
            server.send(self.error() if self.sqlstate else b"")
            return
        server.log_in()
        parts: list[bytes] = []
        while (each := server.read()) is not None:
            parts.append(each.body)
            if each.kind not in b"QS":
                continue
            said, parts = b"".join(parts), []
            is_unit = each.kind == b"S"
            if SQL.encode() not in said:
                server.answer("of the replica")
                continue
            self.asked += 1
            # PostgreSQL sends nothing before it must: what comes before an error comes with it.
            head = PARSED if is_unit else row_description("of_the_primary") if self.rows else b""
            if self.rows:
                server.send(head + row("1") * self.rows)
                head = b""
                self.is_read.wait(10)
            if not self.sqlstate:
                return
            server.send(head + self.error())
            if self.severity == "FATAL":
                return
            server.send(ready())

    def error(self) -> bytes:
        fields = {"S": self.severity, "V": self.severity, "C": self.sqlstate, "M": "it failed"}
        return message(b"E", b"".join(f"{k}{v}\0".encode() for k, v in fields.items()) + b"\0")


@pytest.fixture(scope="module")
def scene(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Pgweir]]:
    """A proxy that splits, of whose nodes the second is played but for its monitor."""
    real = pg_replicated.replicas[0]
    replica = Replica()
    with wire_to((real.host, real.port), MONITOR.name, replica) as wire:
        config = configuration(
            pg_replicated.primary,
            cast("Postgres", wire),
            clusters={"main": {"server": {"tls": {"mode": "disable"}}}},
            databases={DATABASE: {"read_write_split": True, "pool_size": 1}},
        )
        with running(config, tmp_path_factory.mktemp("second")) as weir:
            weir.wait_until(lambda: weir.metric("pgweir_node_up") == 2)
            yield replica, weir


@pytest.fixture
def client(scene: tuple[Replica, Pgweir]) -> Iterator[Client]:
    """Somebody whose reads go to the replica."""
    replica, weir = scene
    replica.__init__()  # type: ignore[misc]
    with Client.connect(address_of(weir)) as client:
        weir.wait_until(
            lambda: rows_of(client.ask(query("select 1"))) == [[b"of the replica"]], 20.0
        )
        yield client


@PROTOCOLS
@pytest.mark.parametrize(
    ("sqlstate", "severity"),
    [
        ("", ""),
        # Recovery conflicts with it, or wants what it holds.
        ("40001", "ERROR"),
        ("40001", "FATAL"),
        ("40P01", "ERROR"),
        # The replica is stopped, has crashed, is not there yet.
        ("57P01", "FATAL"),
        ("57P01", "ERROR"),
        ("57P02", "FATAL"),
        ("57P03", "FATAL"),
        ("57P03", "ERROR"),
        # It is for a primary.
        ("25006", "ERROR"),
    ],
)
def test_it_is_run_again_unnoticed(
    scene: tuple[Replica, Pgweir], client: Client, asked: bytes, sqlstate: str, severity: str
) -> None:
    replica, weir = scene
    replica.sqlstate, replica.severity = sqlstate, severity
    before = weir.metric("pgweir_reruns_total")
    second = weir.metric("pgweir_routed_total", target="primary", reason="second_try")
    heard = client.ask(asked)
    assert kinds_of(heard) == ("12TDCZ" if asked is EXTENDED else "TDCZ")
    assert rows_of(heard) == [[b"42"]]
    assert replica.asked == 1
    assert weir.metric("pgweir_reruns_total") == before + 1
    assert weir.metric("pgweir_routed_total", target="primary", reason="second_try") == second + 1


@PROTOCOLS
@pytest.mark.parametrize("severity", ["ERROR", "FATAL"])
def test_its_rows_were_sent_on_so_it_is_not(
    scene: tuple[Replica, Pgweir], client: Client, asked: bytes, severity: str
) -> None:
    replica, weir = scene
    replica.sqlstate, replica.severity, replica.rows = "40001", severity, 2
    before = weir.metric("pgweir_reruns_total")
    client.send(asked)
    heard = [client.receive() for _ in range(5 if asked is EXTENDED else 3)]
    assert rows_of(heard) == [[b"1"]] * 2
    replica.is_read.set()
    # What ends the server connection is told in words that leave the client its own.
    assert errors_of(client.until_ready()) == ["40001" if severity == "ERROR" else "08006"]
    assert weir.metric("pgweir_reruns_total") == before
    assert rows_of(client.ask(query("select 43"))) == [[b"of the replica"]]


@PROTOCOLS
@pytest.mark.parametrize("sqlstate", ["57014", "22012", "53200", "42P01"])
def test_what_a_primary_would_say_as_well_is_the_clients(
    scene: tuple[Replica, Pgweir], client: Client, asked: bytes, sqlstate: str
) -> None:
    replica, weir = scene
    replica.sqlstate = sqlstate
    before = weir.metric("pgweir_reruns_total")
    assert errors_of(client.ask(asked)) == [sqlstate]
    assert weir.metric("pgweir_reruns_total") == before


@PROTOCOLS
@pytest.mark.parametrize("severity", ["ERROR", "FATAL"])
def test_in_a_transaction_it_is_the_clients(
    scene: tuple[Replica, Pgweir], client: Client, asked: bytes, severity: str
) -> None:
    replica, weir = scene
    replica.sqlstate, replica.severity = "40001", severity
    before = weir.metric("pgweir_reruns_total")
    client.ask(query("begin read only"))
    assert errors_of(client.ask(asked)) == ["40001" if severity == "ERROR" else "08006"]
    client.ask(query("rollback"))
    assert weir.metric("pgweir_reruns_total") == before


@PROTOCOLS
@pytest.mark.parametrize("sqlstate", ["57P03", "57P01", "53300", ""])
def test_a_replica_that_takes_no_new_connection_is_done_without(
    scene: tuple[Replica, Pgweir], client: Client, asked: bytes, sqlstate: str
) -> None:
    """Although it answers the monitor: nobody waits for it."""
    replica, weir = scene
    replica.sqlstate, replica.severity = "57P01", "FATAL"
    assert rows_of(client.ask(asked)) == [[b"42"]]
    replica.sqlstate = sqlstate
    replica.refuses.set()
    assert rows_of(client.ask(asked)) == [[b"42"]]
    replica.refuses.clear()
    weir.wait_until(lambda: rows_of(client.ask(query("select 1"))) == [[b"of the replica"]])
