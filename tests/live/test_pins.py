"""What lives in a session keeps its client on its server connection, and nobody else meets it."""

from collections.abc import Iterator

import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import SYNC, Wire, address_of, errors_of, query, rows_of, run


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {"two": {**each, "pool_size": 2}, "one": {**each, "pool_size": 1}}
    with running(configuration(pg18, databases=databases), tmp_path_factory.mktemp("pins")) as weir:
        yield weir


def pinned(weir: Pgweir, database: str = "two") -> float:
    return weir.metric("pgweir_pinned_clients", database=database)


# What pins, the question whose answer shows it, the answer, what ends it, and the reason.
PINNING = [
    ("CREATE TEMP TABLE mine (a int)", "SELECT count(*) FROM mine", "0", "DROP TABLE mine",
     "temporary object"),
    ("CREATE TEMPORARY TABLE mine AS SELECT 1 AS a", "SELECT a FROM mine", "1", "DISCARD TEMP",
     "temporary object"),
    ("SELECT 5 AS a INTO TEMP mine", "SELECT a FROM mine", "5", "DROP TABLE mine",
     "temporary object"),
    ("CREATE TABLE pg_temp.mine (a int)", "SELECT count(*) FROM pg_temp.mine", "0",
     "DROP TABLE pg_temp.mine", "temporary object"),
    ("CREATE TEMP VIEW mine AS SELECT 7 AS a", "SELECT a FROM mine", "7", "DROP VIEW mine",
     "temporary object"),
    ("CREATE FUNCTION pg_temp.mine() RETURNS int RETURN 8", "SELECT pg_temp.mine()", "8",
     "DROP FUNCTION pg_temp.mine", "temporary object"),
    ("CREATE TYPE pg_temp.mine AS ENUM ('a')", "SELECT enum_first(null::pg_temp.mine)", "a",
     "DROP TYPE pg_temp.mine", "temporary object"),
    ("CREATE DOMAIN pg_temp.mine AS int", "SELECT 9::pg_temp.mine", "9", "DISCARD TEMP",
     "temporary object"),
    ("SELECT pg_advisory_lock(77)", "SELECT pg_advisory_unlock(77), pg_advisory_lock(77)", "t",
     "SELECT pg_advisory_unlock_all()", "session advisory lock"),
    ("SELECT pg_try_advisory_lock_shared(1, 2)", "SELECT 1", "1",
     "SELECT pg_advisory_unlock_shared(1, 2)", "session advisory lock"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)", "FETCH c", "1", "CLOSE c",
     "held cursor"),
    ("CREATE TEMP TABLE mine (a int)", "SELECT count(*) FROM mine", "0", "DISCARD ALL",
     "temporary object"),
]  # fmt: skip


@pytest.mark.parametrize("how", ["simple", "extended", "in a pipeline", "behind others"])
@pytest.mark.parametrize(("begins", "shows", "shown", "ends", "reason"), PINNING)
def test_it_is_there_until_it_ends_and_for_its_client_alone(
    weir: Pgweir, begins: str, shows: str, shown: str, ends: str, reason: str, how: str
) -> None:
    before = weir.metric("pgweir_pins_total", reason=reason)

    def say(wire: Wire, sql: str) -> list[list[bytes | None]]:
        match how:
            case "simple":
                heard = wire.ask(query(sql))
            case "extended":
                heard = wire.ask(run(sql), SYNC)
            case "in a pipeline":
                # Its unit has no more, where it may not be run within a transaction.
                around = b"" if sql.startswith("DISCARD") else run("SELECT WHERE false")
                heard = wire.ask(around, run(sql), around, SYNC)
            case _:
                nothing = query("SELECT WHERE false")
                heard = wire.ask(nothing, run(sql), SYNC, nothing, ready=3)
        assert errors_of(heard) == []
        return rows_of(heard)

    with (
        Wire.connect(address_of(weir, "two")) as mine,
        Wire.connect(address_of(weir, "two")) as theirs,
    ):
        say(mine, begins)
        for _ in range(2):
            # With one connection pinned, the other serves everybody else.
            theirs.ask(query("SELECT 1"))
            assert say(mine, shows)[0][0] == shown.encode()
            shows = shows if "FETCH" not in shows else "SELECT 1"
        for kind in ("pg_class", "pg_locks", "pg_cursors"):
            condition = {
                "pg_class": "relnamespace = pg_my_temp_schema()",
                "pg_locks": "locktype = 'advisory' AND pid = pg_backend_pid()",
                "pg_cursors": "is_holdable",
            }[kind]
            assert theirs.value(f"SELECT count(*) FROM {kind} WHERE {condition}") == "0"
        assert weir.metric("pgweir_pins_total", reason=reason) >= before + 1
        assert pinned(weir) == 1
        say(mine, ends)
        say(mine, "SELECT 1")
        assert pinned(weir) == 0


@pytest.mark.parametrize(
    "statements",
    [
        ["SELECT 'temporary advisory hold'"],
        ["BEGIN", "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "COMMIT"],
        ["BEGIN", "CREATE TEMP TABLE t (a int)", "ROLLBACK"],
        ["BEGIN", "SELECT pg_advisory_xact_lock(1)", "COMMIT"],
        ["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "COMMIT"],
        ["CREATE TEMP TABLE t (a int", "SELECT 1"],
    ],
)
def test_what_ends_with_its_transaction_pins_nobody(weir: Pgweir, statements: list[str]) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        for sql in statements:
            mine.ask(query(sql))
        assert theirs.value("SELECT 1") == "1"
        assert pinned(weir, "one") == 0


def test_a_pinned_client_that_went_back_to_a_setting_can_set_its_next_transaction(
    weir: Pgweir,
) -> None:
    """Nothing of ours comes before the SET TRANSACTION, which would fail after any query."""
    with Wire.connect(address_of(weir, "two")) as mine:
        mine.ask(query("CREATE TEMP TABLE mine (a int)"))
        for sql in ("SET work_mem = 1234", "RESET work_mem", "BEGIN"):
            assert errors_of(mine.ask(query(sql))) == []
        assert errors_of(mine.ask(query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))) == []
        assert mine.value("SHOW transaction_isolation") == "serializable"
        mine.ask(query("COMMIT; DROP TABLE mine"))


@pytest.mark.parametrize("how", ["simple", "extended", "in a pipeline", "in a transaction"])
def test_a_lock_that_was_taken_before_an_error_is_held_after_it(weir: Pgweir, how: str) -> None:
    """A session's advisory lock outlives the transaction that took it."""
    sql = "SELECT pg_advisory_lock(66), 1 / (a - 1) FROM generate_series(1, 1) AS a"
    said, ready = {
        "simple": ([query(sql)], 1),
        "extended": ([run(sql), SYNC], 1),
        "in a pipeline": ([run("SELECT 1"), run(sql), run("SELECT 2"), SYNC], 1),
        "in a transaction": ([query("BEGIN"), query(sql), query("ROLLBACK")], 3),
    }[how]
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    with (
        Wire.connect(address_of(weir, "two")) as mine,
        Wire.connect(address_of(weir, "two")) as theirs,
    ):
        assert errors_of(mine.ask(*said, ready=ready)) == ["22012"]
        for _ in range(2):
            assert theirs.value(held) == "0"
            assert mine.value(held) == "1"
        assert pinned(weir) == 1
        mine.ask(query("SELECT pg_advisory_unlock(66)"))
        mine.ask(query("SELECT 1"))
        assert pinned(weir) == 0


def test_a_client_that_leaves_leaves_nothing_behind(weir: Pgweir) -> None:
    for polite in (True, False):
        mine = Wire.connect(address_of(weir, "one"))
        mine.ask(query("CREATE TEMP TABLE mine (a int); SELECT pg_advisory_lock(5)"))
        mine.ask(query("DECLARE c CURSOR WITH HOLD FOR SELECT 1"))
        if polite:
            mine.send(b"X\0\0\0\4")
        mine.close()
        with Wire.connect(address_of(weir, "one")) as theirs:
            assert theirs.value("SELECT count(*) FROM pg_cursors") == "0"
            assert errors_of(theirs.ask(query("CREATE TEMP TABLE mine (a int)"))) == []
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert theirs.value(held) == "0"


def test_who_pins_the_last_connection_lets_others_wait(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        mine.ask(query("SELECT pg_advisory_lock(5)"))
        theirs.send(query("SELECT 'at last'"))
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="waiting") == 1)
        mine.ask(query("SELECT pg_advisory_unlock(5)"))
        assert rows_of(theirs.until_ready()) == [[b"at last"]]


def test_settings_follow_a_client_that_was_pinned(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        mine.ask(query("CREATE TEMP TABLE mine (a int)"))
        mine.ask(query("SET app.tenant = 'mine'"))
        mine.ask(query("DROP TABLE mine"))
        assert theirs.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert mine.value("SHOW app.tenant") == "mine"


def test_a_pinned_client_is_told_when_its_server_is_lost(pg18: Postgres, weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as mine:
        mine.ask(query("CREATE TEMP TABLE mine (a int)"))
        pid = mine.value("SELECT pg_backend_pid()")
        pg18.execute(f"SELECT pg_terminate_backend({pid})")
        weir.wait_until(lambda: pinned(weir, "one") == 0)
        assert errors_of(mine.ask(query("SELECT 1"))) == ["08006"]
        assert mine.value("SELECT 1") == "1"
