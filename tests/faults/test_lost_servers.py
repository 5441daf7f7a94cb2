"""A server connection is lost: one error, the right one, and the client's connection goes on."""

import contextlib
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.raw_client import (
    FLUSH,
    SYNC,
    TERMINATE,
    RawClient,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
)
from tests.faults.wire import Wire
from tests.fixtures.console import AUTH, Console
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

Wired = tuple[Wire, Pgweir]
StartWired = Callable[..., Wired]


def states(client: RawClient, sql: str) -> tuple[list[str], bytes]:
    """The SQLSTATEs a query ends with, and the transaction status."""
    replies = client.ask(sql)
    return [each.fields["C"] for each in replies if each.kind == b"E"], replies[-1].body


@contextlib.contextmanager
def lost_in_a_transaction(wired: Wired) -> Iterator[RawClient]:
    """A client whose server is lost between two statements of a transaction."""
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.ask("BEGIN")
        client.value("SELECT 1")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        yield client


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_lost_in_the_middle_of_a_query_costs_one_error(wired: Wired, reset: bool) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        client.send(query("SELECT pg_sleep(30)"))
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        wire.cut(reset=reset)
        replies = client.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert replies[-1].body == b"I"
        assert client.value("SELECT 'on'") == "on"


@pytest.mark.parametrize("ending", ["ROLLBACK", "COMMIT"])
def test_lost_in_the_middle_of_a_transaction_it_is_failed_until_its_end(
    wired: Wired, ending: str
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.ask("BEGIN")
        client.value("SELECT 1")
        client.send(query("SELECT pg_sleep(30)"))
        wire.cut()
        replies = client.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert replies[-1].body == b"E"
        assert states(client, "SELECT 2") == (["25P02"], b"E")
        ended = client.ask(ending)
        assert [(each.kind, each.body) for each in ended] == [(b"C", b"ROLLBACK\0"), (b"Z", b"I")]
        assert client.value("SELECT 'on'") == "on"


def test_lost_while_idle_in_a_transaction_the_next_statement_has_the_error(
    wired: Wired,
) -> None:
    with lost_in_a_transaction(wired) as client:
        assert states(client, "SELECT 2") == (["08006"], b"E")
        assert states(client, "SELECT 3") == (["25P02"], b"E")
        assert states(client, "ROLLBACK") == ([], b"I")
        assert client.value("SELECT 'on'") == "on"


def test_lost_while_idle_in_a_transaction_a_rollback_simply_succeeds(
    wired: Wired,
) -> None:
    """What it asks for has happened; an error would make drivers throw the connection away."""
    with lost_in_a_transaction(wired) as client:
        assert states(client, "ROLLBACK") == ([], b"I")


def test_lost_while_idle_in_a_transaction_a_commit_does_not_pass_for_done(
    wired: Wired,
) -> None:
    with lost_in_a_transaction(wired) as client:
        # As with one that PostgreSQL refuses, the transaction is over: drivers do not end it again.
        replies = client.ask("COMMIT")
        assert [each.kind for each in replies] == [b"E", b"Z"]
        assert (replies[0].fields["C"], replies[1].body) == ("08006", b"I")
        assert client.value("SELECT 'on'") == "on"


# How drivers run what ends a transaction in the extended protocol, and what PostgreSQL answers.
ENDINGS: dict[str, list[tuple[Callable[[str], bytes], list[bytes]]]] = {
    "at once": [
        (lambda sql: parse("", sql) + bind("", "") + execute() + SYNC, [b"1", b"2", b"C", b"Z"]),
    ],
    "its portal described": [
        (
            lambda sql: parse("", sql) + bind("", "") + describe("P", "") + execute() + SYNC,
            [b"1", b"2", b"n", b"C", b"Z"],
        ),
    ],
    "described before it is bound": [
        (
            lambda sql: parse("s", sql) + describe("S", "s") + bind("", "s") + execute() + SYNC,
            [b"1", b"t", b"n", b"2", b"C", b"Z"],
        ),
    ],
    "prepared and described on its own": [
        (lambda sql: parse("s", sql) + describe("S", "s") + SYNC, [b"1", b"t", b"n", b"Z"]),
        (lambda _sql: bind("", "s") + execute() + SYNC, [b"2", b"C", b"Z"]),
    ],
    "prepared on its own": [
        (lambda sql: parse("s", sql) + SYNC, [b"1", b"Z"]),
        (lambda _sql: bind("", "s") + execute() + SYNC, [b"2", b"C", b"Z"]),
    ],
}


@pytest.mark.parametrize("units", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("ending", ["rollback", "COMMIT"])
def test_a_transaction_whose_server_is_lost_is_ended_by_the_extended_protocol(
    wired: Wired, ending: str, units: list[tuple[Callable[[str], bytes], list[bytes]]]
) -> None:
    with lost_in_a_transaction(wired) as client:
        assert states(client, "SELECT 2") == (["08006"], b"E")
        for said, kinds in units:
            client.send(said(ending))
            replies = client.read_until(b"Z")
            assert [each.kind for each in replies] == kinds
        assert replies[-2].body == b"ROLLBACK\0"
        assert replies[-1].body == b"I"
        assert client.value("SELECT 'on'") == "on"


def test_a_commit_of_the_extended_protocol_that_hears_of_the_loss_ends_its_transaction(
    wired: Wired,
) -> None:
    with lost_in_a_transaction(wired) as client:
        client.send(parse("", "COMMIT") + bind("", "") + execute() + SYNC)
        replies = client.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert [each.body for each in replies if each.kind in (b"C", b"Z")] == [b"I"]
        assert client.value("SELECT 'on'") == "on"


def test_lost_outside_a_transaction_nobody_notices(wired: Wired) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_server_connections", state="idle") == 0)
        assert client.value("SELECT 'on'") == "on"


def test_lost_between_begin_and_the_first_statement_nobody_notices(
    wired: Wired,
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        client.ask("BEGIN")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_server_connections", state="idle") == 0)
        assert client.value("SELECT now() < clock_timestamp()") == "t"
        assert states(client, "COMMIT") == ([], b"I")


LEFT = {
    "a lock": ("SELECT pg_advisory_lock(77)", b"pg_locks"),
    "a table": ("CREATE TEMPORARY TABLE left_there (a int)", b"pg_my_temp_schema"),
    "a statement": ("PREPARE left_there AS SELECT 1", b"prepared_statements"),
    "a setting": ("SET work_mem = '8MB'", b"work_mem"),
}


@pytest.mark.parametrize(("sql", "question"), LEFT.values(), ids=LEFT.keys())
def test_lost_before_it_is_known_what_it_has_left_there_a_client_is_told(
    wired: Wired, sql: str, question: bytes
) -> None:
    """It believes in a lock, say, that nobody holds any more."""
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        wire.on_request = lambda octets: sql.encode() in octets or question not in octets
        client.ask(sql)
        weir.wait_until(lambda: weir.metric("pgweir_server_connections") == 0)
        wire.on_request = None
        assert client.error("SELECT 1") == "08006"
        assert client.value("SELECT 'on'") == "on"


COMMITS = {
    "simple": query("COMMIT"),
    "end": query("end;"),
    "extended": parse("", "COMMIT") + bind("", "") + execute() + SYNC,
    "named": bind("", "commit") + execute() + SYNC,
    "and_more": query("INSERT INTO pg_temp.t VALUES (1); COMMIT"),
    "commented": query("/* traced */ COMMIT"),
    "prepare": query("PREPARE TRANSACTION 'COMMIT'"),
}


@pytest.mark.parametrize("words", COMMITS.values(), ids=COMMITS.keys())
def test_a_commit_whose_answer_is_lost_is_reported_as_unknown(wired: Wired, words: bytes) -> None:
    wire, weir = wired
    wire.on_request = lambda octets: (
        b"COMMIT" not in octets.upper() and b"end;" not in octets and b"_pgweir" not in octets
    )
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        if b"commit\0" in words:
            # Outside a transaction it is prepared on a server; the loss is of the Bind only.
            wire.on_request = None
            client.send(parse("commit", "COMMIT") + SYNC)
            client.read_until(b"Z")
            wire.on_request = lambda octets: b"_pgweir" not in octets
        client.ask("BEGIN")
        client.value("SELECT 1")
        client.send(words)
        replies = client.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08007"]
        assert replies[-1].body == b"I"
        wire.on_request = None
        assert client.value("SELECT 'on'") == "on"


def unit(text: str) -> bytes:
    """A statement in the extended protocol."""
    return parse("", text) + bind("", "") + execute() + SYNC


SLEEPS = "SELECT pg_sleep(30)"
INSERTS = "INSERT INTO kept SELECT 1 FROM pg_sleep(30)"
# What is sent outside a transaction, and what each of its requests is answered when it is lost.
LOST = {
    "simple": (query(INSERTS), ["08007"]),
    "extended": (unit(INSERTS), ["08007"]),
    "commented": (query(f"/* a */ {INSERTS} -- b"), ["08007"]),
    "several": (query(f"SELECT 1; {INSERTS}"), ["08007"]),
    "with": (query(f"WITH w AS ({INSERTS} RETURNING 1) SELECT * FROM w"), ["08007"]),
    "sequence": (query("SELECT nextval('counted'), pg_sleep(30)"), ["08007"]),
    "function": (query("SELECT writing(), pg_sleep(30)"), ["08007"]),
    "call": (query("CALL keeping()"), ["08007"]),
    "several in a unit": (
        parse("", "SELECT 1") + bind("", "") + execute() + unit(INSERTS),
        ["08007"],
    ),
    "pipelined": (unit(SLEEPS) + unit(INSERTS), ["08007", "08007"]),
    "too long to be kept": (query(f"{SLEEPS} -- {'x' * 5000}"), ["08007"]),
    "read": (query(SLEEPS), ["08006"]),
    "read, extended": (unit(SLEEPS), ["08006"]),
    "read, pipelined": (unit(SLEEPS) + unit("SHOW work_mem") + unit("TABLE kept"), ["08006"] * 3),
    "read that locks": (query("SELECT 1 FROM pg_sleep(30) FOR UPDATE"), ["08006"]),
    "of the node": (query("SELECT pg_is_in_recovery(), pg_sleep(30)"), ["08006"]),
    "of the session": (query("SET work_mem = '8MB'; SELECT pg_sleep(30)"), ["08006"]),
    "explained": (query(f"EXPLAIN {INSERTS}; {SLEEPS}"), ["08006"]),
}


@pytest.fixture(scope="module")
def keeping(pg18: Postgres) -> None:
    pg18.execute(
        "DROP TABLE IF EXISTS kept; CREATE TABLE kept (a int); GRANT ALL ON kept TO PUBLIC;"
        "CREATE SEQUENCE IF NOT EXISTS counted; GRANT ALL ON counted TO PUBLIC;"
        "CREATE OR REPLACE FUNCTION writing() RETURNS void LANGUAGE sql AS 'INSERT INTO kept"
        " VALUES (1)';"
        "CREATE OR REPLACE PROCEDURE keeping() LANGUAGE plpgsql AS 'BEGIN INSERT INTO kept"
        " VALUES (1); COMMIT; PERFORM pg_sleep(30); END'"
    )


@pytest.mark.parametrize("splits", [False, True], ids=["not split", "split"])
@pytest.mark.usefixtures("keeping")
def test_of_what_may_have_written_the_outcome_is_unknown_and_a_read_is_lost(
    start_wired: StartWired, splits: bool
) -> None:
    """Nobody knows how far the server came; of what only reads nobody needs to."""
    databases = {DATABASE: {"pool_size": 1, "read_write_split": splits}}
    wire, weir = start_wired(databases=databases)
    told = {}
    for name, (words, expected) in LOST.items():
        with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
            client.value("SELECT 1")
            client.send(words)
            weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
            wire.cut()
            told[name] = []
            for _ in expected:
                replies = client.read_until(b"Z")
                told[name] += [each.fields["C"] for each in replies if each.kind == b"E"]
                assert replies[-1].body == b"I", name
            assert client.value("SELECT 'on'") == "on"
    assert told == {name: expected for name, (_, expected) in LOST.items()}


def test_a_pipelined_unit_that_is_lost_gets_one_error_and_its_ready(
    wired: Wired,
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        unit = parse("", "SELECT pg_sleep(30)") + bind("", "") + execute()
        client.send(unit + SYNC + unit + SYNC)
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        wire.cut()
        kinds = [each.kind for each in (*client.read_until(b"Z"), *client.read_until(b"Z"))]
        assert kinds == [b"E", b"Z", b"E", b"Z"]
        assert client.value("SELECT 'on'") == "on"


def test_a_unit_lost_before_its_sync_is_skipped_up_to_it(wired: Wired) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        client.send(parse("", "SELECT 1") + bind("", "") + execute())
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        client.send(bind("", "") + execute() + SYNC)
        kinds = [each.kind for each in client.read_until(b"Z")]
        assert kinds == [b"E", b"Z"]
        assert client.value("SELECT 'on'") == "on"


@contextlib.contextmanager
def lost_between_batches(
    wired: Wired, *before: str, unit: bytes = parse("", "SELECT generate_series(1, 9)")
) -> Iterator[RawClient]:
    """A client that has read the first row of a cursor and not ended that unit, when its server is
    lost. before: simple queries. unit: how it begins, up to its Bind."""
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        for sql in before:
            client.ask(sql)
        client.send(unit + bind("", "") + execute(rows=1) + FLUSH)
        client.read_until(b"s")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        # All that it asked for is answered.
        assert not client.unfinished
        assert not select.select([client.socket], [], [], 0)[0]
        yield client


# What may come next in such a unit: what that is answered, and how its end is.
NEXT: dict[str, tuple[bytes, bytes]] = {
    "execute, flush": (execute(rows=1) + FLUSH, SYNC),
    "flush": (FLUSH, SYNC),
    "parse": (parse("", "SELECT 2") + FLUSH, SYNC),
    "bind": (bind("", "") + FLUSH, SYNC),
    "describe": (describe("P", ""), SYNC),
    "close portal": (close("P", "") + FLUSH, SYNC),
    "close statement": (close("S", "none") + FLUSH, SYNC),
    "what no transaction could answer": (
        parse("", "BEGIN") + bind("", "") + execute() + FLUSH,
        SYNC,
    ),
    "sync": (SYNC, b""),
    "execute, sync": (execute(rows=1) + SYNC, b""),
    "query": (query("SELECT 2"), b""),
    "long query": (query(f"SELECT '{'x' * 100_000}'"), b""),
    "begin": (query("BEGIN"), b""),
    "own setting": (query("SHOW pgweir.route"), b""),
    "deallocate": (query("DEALLOCATE kept"), b""),
    "function call": (message(b"F", b"\0\0\3\xbb" + b"\0" * 6), b""),
}


@pytest.mark.parametrize(("words", "end"), NEXT.values(), ids=NEXT)
@pytest.mark.parametrize(
    ("before", "status"), [((), b"I"), (("BEGIN", "SELECT 1"), b"E")], ids=["alone", "in a block"]
)
def test_lost_when_all_of_its_unit_is_answered_a_client_is_told_when_it_goes_on(
    wired: Wired, words: bytes, end: bytes, before: tuple[str, ...], status: bytes
) -> None:
    """Drivers take an error that nothing they said has caused for that of whatever comes next."""
    unit = parse("kept", "SELECT 1") + parse("", "SELECT generate_series(1, 9)")
    with lost_between_batches(wired, *before, unit=unit) as client:
        client.send(words)
        (error,) = client.read_until(b"E")
        assert error.fields["C"] == "08006"
        client.send(end)
        (ready,) = client.read_until(b"Z")
        assert ready.body == status
        if before:
            assert states(client, "SELECT 2") == (["25P02"], b"E")
            assert states(client, "ROLLBACK") == ([], b"I")
        assert client.value("SELECT 'on'") == "on"


@pytest.mark.parametrize(
    ("sql", "told"),
    [("ROLLBACK", [(b"C", b"ROLLBACK\0")]), ("COMMIT", None)],
    ids=["rollback", "commit"],
)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_lost_when_all_of_its_unit_is_answered_the_transaction_may_simply_end(
    wired: Wired, sql: str, told: list[tuple[bytes, bytes]] | None, extended: bool
) -> None:
    with lost_between_batches(wired, "BEGIN", "SELECT 1") as client:
        client.send(parse("", sql) + bind("", "") + execute() + SYNC if extended else query(sql))
        replies = [each for each in client.read_until(b"Z") if each.kind not in (b"1", b"2")]
        if told is None:
            assert replies[0].fields["C"] == "08006"
        else:
            assert [(each.kind, each.body) for each in replies[:-1]] == told
        assert len(replies) == 2
        assert replies[-1].body == b"I"
        assert client.value("SELECT 'on'") == "on"


def test_lost_when_its_commit_is_answered_but_not_its_unit_the_outcome_is_unknown(
    wired: Wired,
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.ask("BEGIN")
        client.value("SELECT 1")
        client.send(parse("", "COMMIT") + bind("", "") + execute() + FLUSH)
        client.read_until(b"C")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        assert not select.select([client.socket], [], [], 0)[0]
        client.send(SYNC)
        error, ready = client.read_until(b"Z")
        assert (error.fields["C"], ready.body) == ("08007", b"I")
        assert client.value("SELECT 'on'") == "on"


@pytest.mark.parametrize(
    ("before", "status"), [((), b"I"), (("BEGIN", "SELECT 1"), b"E")], ids=["alone", "in a block"]
)
def test_lost_in_a_unit_that_has_failed_its_error_stays_the_only_one(
    wired: Wired, before: tuple[str, ...], status: bytes
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        for sql in before:
            client.ask(sql)
        client.send(parse("", "SELECT 1/0") + bind("", "") + execute() + FLUSH)
        client.read_until(b"E")
        wire.cut()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        assert not select.select([client.socket], [], [], 0)[0]
        client.send(execute() + SYNC)
        (ready,) = client.read_until(b"Z")
        assert ready.body == status
        assert states(client, "ROLLBACK") == ([], b"I")
        assert client.value("SELECT 'on'") == "on"


def test_lost_between_batches_a_client_may_leave(wired: Wired) -> None:
    with lost_between_batches(wired) as client:
        client.send(TERMINATE)
        assert client.read_to_end() == []


def test_lost_in_a_copy_costs_one_error(wired: Wired) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.ask("BEGIN")
        client.ask("CREATE TEMP TABLE copied (line text) ON COMMIT DROP")
        client.send(query("COPY copied FROM STDIN"))
        client.read_until(b"G")
        wire.cut()
        replies = client.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert states(client, "ROLLBACK") == ([], b"I")
        assert client.value("SELECT 'on'") == "on"


def test_a_held_wire_delays_its_client_and_no_other(wired: Wired) -> None:
    wire, weir = wired
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as slow,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as other,
    ):
        slow.value("SELECT 1")
        wire.is_held.set()
        slow.send(query("SELECT 'late'"))
        answered = threading.Event()

        def ask() -> None:
            other.ask("BEGIN")
            other.ask("COMMIT")
            answered.set()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert answered.wait(5)
        wire.is_held.clear()
        assert [each.columns for each in slow.read_until(b"Z") if each.kind == b"D"] == [[b"late"]]
        thread.join(5)


def test_servers_that_refuse_make_clients_wait_until_one_is_there(
    start_wired: StartWired,
) -> None:
    wire, weir = start_wired(limits={"server_login_retry": "100ms"})
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.value("SELECT 1")
        wire.refuses = True
        wire.cut()
        client.send(query("SELECT 'waited'"))
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="waiting") == 1)
        wire.refuses = False
        rows = [each.columns for each in client.read_until(b"Z") if each.kind == b"D"]
        assert rows == [[b"waited"]]


def test_a_client_that_is_gone_before_its_copy_begins_leaves_no_server_waiting_for_data(
    wired: Wired, pg18: Postgres
) -> None:
    """PostgreSQL does not look at a cancel while it waits for COPY data."""
    pg18.execute("CREATE TABLE IF NOT EXISTS vanished (a int); GRANT ALL ON vanished TO app")
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        gone = RawClient.logged_in(weir.port, APP.name, DATABASE)
        gone.value("SELECT 1")
        wire.is_held.set()
        gone.send(query("COPY vanished FROM STDIN"))
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        gone.reset()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 1)
        wire.is_held.clear()
        assert client.value("SELECT 'on'") == "on"


def test_a_lost_connection_has_its_node_asked_at_once(pg18: Postgres, tmp_path: Path) -> None:
    # The next turn of the probes is as good as never.
    rarely = {"main": {"monitor": {"interval": "1h"}}}
    with (
        running(
            configuration(pg18, auth={**AUTH, "method": "trust"}, clusters=rarely), tmp_path
        ) as weir,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as client,
        closing(Console(weir)) as console,
    ):
        lost = client.value("SELECT pg_backend_pid()")
        before = console.one("NODES")["replay_lsn"]
        pg18.execute("SELECT pg_logical_emit_message(false, 'news', 'of the primary')")
        assert console.one("NODES")["replay_lsn"] == before
        pg18.execute(f"SELECT pg_terminate_backend({lost})")
        weir.wait_until(lambda: console.one("NODES")["replay_lsn"] != before)
