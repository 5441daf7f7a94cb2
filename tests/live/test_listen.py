"""LISTEN and NOTIFY in transaction mode: one listening connection serves all clients."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import (
    SYNC,
    Message,
    Wire,
    address_of,
    bind,
    close_statement,
    errors_of,
    execute,
    fields_of,
    kinds_of,
    parse,
    query,
    rows_of,
    run,
)

Say = Callable[[Wire, str], list[Message]]
EARS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgweir listener'"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "many": {**each, "pool_size": 4},
        "session": {**each, "pool_mode": "session"},
        "untracked": {**each, "pool_size": 1, "max_prepared_statements": 0},
    }
    config = configuration(pg18, databases=databases)
    with running(config, tmp_path_factory.mktemp("listen")) as weir:
        yield weir


class Note(NamedTuple):
    pid: int
    channel: str
    payload: str


def note(heard: Message) -> Note:
    assert heard.kind == b"A", heard
    (pid,) = struct.unpack_from("!I", heard.body)
    channel, payload, rest = heard.body[4:].split(b"\0")
    assert rest == b""
    return Note(pid, channel.decode(), payload.decode())


def notes(wire: Wire, count: int) -> list[tuple[str, str]]:
    """The next messages, which must be notifications: channels and payloads."""
    return [note(wire.receive())[1:] for _ in range(count)]


def simple(wire: Wire, sql: str) -> list[Message]:
    return wire.ask(query(sql))


def extended(wire: Wire, sql: str) -> list[Message]:
    return wire.ask(run(sql), SYNC)


def in_halves(wire: Wire, sql: str) -> list[Message]:
    heard = wire.ask(parse(sql, "half"), SYNC)
    return heard + wire.ask(bind(name="half"), execute(), close_statement("half"), SYNC)


def pipelined(wire: Wire, sql: str) -> list[Message]:
    return wire.ask(run("SELECT 1"), SYNC, run(sql), SYNC, query("SELECT 2"), ready=3)


@pytest.fixture(params=[simple, extended, in_halves, pipelined])
def say(request: pytest.FixtureRequest) -> Say:
    way: Say = request.param
    return way


@pytest.mark.parametrize("database", ["one", "many", "untracked", "session"])
def test_idle_clients_hear_it_at_once_in_order_and_with_the_payload(
    weir: Pgweir, pg18: Postgres, say: Say, database: str
) -> None:
    with (
        Wire.connect(address_of(weir, database)) as one,
        Wire.connect(address_of(weir, database)) as two,
        Wire.connect(address_of(weir, "many")) as sender,
    ):
        for wire in (one, two) if database != "session" else (one,):
            assert errors_of(say(wire, "LISTEN news")) == []
        for number in range(20):
            say(sender, f"NOTIFY news, 'number {number}'")
        expected = [("news", f"number {number}") for number in range(20)]
        assert notes(one, 20) == expected
        if database != "session":
            assert notes(two, 20) == expected
            assert pg18.value(EARS) == 1
        assert errors_of(say(one, "UNLISTEN news")) == []
        say(sender, "SELECT pg_notify('news', 'no more')")
        assert kinds_of(one.ask(query("SELECT 1"))) == "TDCZ"
        if database != "session":
            assert notes(two, 1) == [("news", "no more")]
    assert weir.metric("pgweir_pinned_clients") == 0


def test_nothing_is_heard_after_an_unlisten_of_what_was_heard_while_it_ran(weir: Pgweir) -> None:
    """It may have been the client's own by its server connection, and waited for the answer."""
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as sender,
    ):
        for _ in range(3):
            one.ask(query("LISTEN fading"))
            sender.ask(query("BEGIN; NOTIFY fading, 'too late'"))
            # Gets the sender's server connection as soon as that is free.
            one.send(query("UNLISTEN fading; SELECT pg_sleep(0.05)"))
            sender.ask(query("COMMIT"))
            one.until_ready()
            sender.ask(query("SELECT pg_sleep(0.25)"))
            assert kinds_of(one.ask(query("SELECT 1"))) == "TDCZ"


@pytest.mark.parametrize("say", [simple, extended, in_halves])
def test_what_was_notified_before_an_unlisten_is_heard(weir: Pgweir, say: Say) -> None:
    """However late the proxy itself hears it."""
    with (
        Wire.connect(address_of(weir, "many")) as one,
        Wire.connect(address_of(weir, "many")) as sender,
    ):
        for number in range(30):
            assert errors_of(one.ask(query("LISTEN parting"))) == []
            sender.ask(query(f"NOTIFY parting, '{number}'"))
            heard = say(one, "UNLISTEN *")
            assert errors_of(heard) == []
            notified = [note(message)[1:] for message in heard if message.kind == b"A"]
            assert notified == [("parting", str(number))]


def test_an_unlisten_is_answered_while_the_proxy_cannot_listen(
    weir: Pgweir, pg18: Postgres
) -> None:
    with Wire.connect(address_of(weir, "many")) as one:
        one.ask(query("LISTEN lost"))
        pg18.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pgweir listener'"
        )
        assert errors_of(one.ask(query("UNLISTEN lost"))) == []


@pytest.mark.parametrize("begins", ["LISTEN a", "SAVEPOINT s; LISTEN a; ROLLBACK TO s"])
def test_a_listen_that_is_rolled_back_never_was(weir: Pgweir, begins: str) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as sender,
    ):
        for sql in ("BEGIN", begins, "ROLLBACK" if "SAVEPOINT" not in begins else "COMMIT"):
            one.ask(query(sql))
        sender.ask(query("NOTIFY a, 'lost'"))
        assert one.value("SELECT count(*) FROM pg_listening_channels()") == "0"
        one.ask(query("LISTEN a"))
        for sql in ("BEGIN", "UNLISTEN a", "ROLLBACK"):
            one.ask(query(sql))
        sender.ask(query("NOTIFY a, 'found'"))
        assert notes(one, 1) == [("a", "found")]
        heard = one.ask(query("BEGIN; LISTEN b; SELECT 1 / 0"), query("ROLLBACK"), ready=2)
        assert errors_of(heard) == ["22012"]
        sender.ask(query("NOTIFY b, 'lost'; NOTIFY a, 'again'"))
        assert notes(one, 1) == [("a", "again")]


def test_in_a_transaction_they_wait_for_its_end(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "many")) as one,
        Wire.connect(address_of(weir, "many")) as two,
        Wire.connect(address_of(weir, "many")) as sender,
    ):
        for wire in (one, two):
            wire.ask(query("LISTEN held"))
        assert kinds_of(one.ask(query("BEGIN"), query("SELECT 1"), ready=2)) == "CZTDCZ"
        sender.ask(query("NOTIFY held, 'back'"))
        # Who is idle has it, so whoever is not could have it, too.
        assert notes(two, 1) == [("held", "back")]
        assert kinds_of(one.ask(query("SELECT 2"))) == "TDCZ"
        assert kinds_of(one.ask(run("SELECT 3"), SYNC)) == "12TDCZ"
        assert kinds_of(one.ask(query("COMMIT"))) == "CAZ"
        # A BEGIN that no server has been told of is a transaction as well.
        one.ask(query("BEGIN"))
        sender.ask(query("NOTIFY held, 'again'"))
        assert notes(two, 1) == [("held", "again")]
        assert kinds_of(one.ask(query("ROLLBACK"))) == "CAZ"


def test_they_never_come_between_rows(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "many")) as one,
        Wire.connect(address_of(weir, "many")) as sender,
    ):
        one.ask(query("LISTEN busy"))
        one.send(query("SELECT generate_series(1, 5), pg_sleep(0.05)") * 3)
        for number in range(15):
            sender.ask(query(f"NOTIFY busy, '{number}'"))
        kinds = kinds_of(one.until_ready(3))
        assert kinds.replace("A", "") == "TDDDDDCZ" * 3
        assert "TA" not in kinds
        assert "DA" not in kinds


def test_what_a_client_notifies_itself_comes_with_its_answer_and_once(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as other,
    ):
        one.ask(query("LISTEN mine"))
        for way in (query("NOTIFY mine, 'x'"), run("NOTIFY mine, 'x'") + SYNC):
            for _ in range(10):
                heard = one.ask(way)
                (own,) = [note(each) for each in heard if each.kind == b"A"]
                assert own == (one.pid, "mine", "x")
                other.ask(query("SELECT 1"))
        heard = one.ask(query("BEGIN; LISTEN also; NOTIFY also, 'y'; NOTIFY mine, 'z'; COMMIT"))
        assert [note(each)[1:] for each in heard if each.kind == b"A"] == [
            ("also", "y"),
            ("mine", "z"),
        ]
        other.ask(query("NOTIFY mine, 'last'"))
        # Clients know each other by what they were told at their logins.
        assert note(one.receive()) == (other.pid, "mine", "last")
        other.ask(query("SELECT pg_notify('mine', 'by a function')"))
        assert note(one.receive()).pid not in (one.pid, other.pid)


def test_a_client_is_told_its_own_channels(weir: Pgweir) -> None:
    own = "SELECT pg_listening_channels() ORDER BY 1"
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("LISTEN a"), query('LISTEN "B c"'), ready=2)
        two.ask(query("LISTEN z"))
        for _ in range(2):
            assert rows_of(one.ask(query(own))) == [[b"B c"], [b"a"]]
            assert rows_of(two.ask(query(own))) == [[b"z"]]
        one.ask(query("UNLISTEN *"))
        assert rows_of(one.ask(query(own))) == []
        two.ask(query("DISCARD ALL"))
        assert rows_of(two.ask(query(own))) == []
        one.ask(query("NOTIFY z"))
        assert kinds_of(two.ask(query("SELECT 1"))) == "TDCZ"


def test_nobody_hears_what_a_client_listened_to_that_has_left(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(query("LISTEN gone"))
    with Wire.connect(address_of(weir, "one")) as two:
        assert kinds_of(two.ask(query("NOTIFY gone"), query("SELECT 1"), ready=2)) == "CZTDCZ"


def test_a_lost_connection_is_made_up_for_with_a_warning(weir: Pgweir, pg18: Postgres) -> None:
    with (
        Wire.connect(address_of(weir, "many")) as one,
        Wire.connect(address_of(weir, "many")) as two,
        Wire.connect(address_of(weir, "many")) as sender,
    ):
        for wire in (one, two):
            wire.ask(query("LISTEN lasting"))
        two.ask(query("BEGIN"), query("SELECT 1"), ready=2)
        pg18.execute(f"SELECT pg_terminate_backend(pid) FROM ({EARS.replace('count(*)', 'pid')}) e")
        warning = fields_of(one.receive())
        assert (warning["S"], warning["C"]) == ("WARNING", "01000")
        assert "missed" in warning["M"]
        sender.ask(query("NOTIFY lasting, 'again'"))
        assert notes(one, 1) == [("lasting", "again")]
        heard = two.ask(query("COMMIT"))
        assert kinds_of(heard) == "CNAZ"
        # A lost connection of the pool is no matter.
        pid = one.value("SELECT pg_backend_pid()")
        pg18.execute(f"SELECT pg_terminate_backend({pid})")
        sender.ask(query("NOTIFY lasting, 'still'"))
        assert notes(two, 1) == [("lasting", "still")]
        assert notes(one, 1) == [("lasting", "still")]


def test_without_a_connection_to_listen_the_client_is_told_so(
    pg18: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The proxy's own login may not be allowed in that database."""
    pg18.execute("DROP DATABASE IF EXISTS closed")
    pg18.execute("CREATE DATABASE closed")
    pg18.execute(
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC; GRANT CONNECT ON DATABASE closed TO app"
    )
    config = configuration(pg18, databases={"closed": {"cluster": "main", "pool_size": 1}})
    with (
        running(config, tmp_path_factory.mktemp("closed")) as weir,
        Wire.connect(address_of(weir, "closed")) as wire,
    ):
        wire.send(query("LISTEN a"))
        heard = wire.until(lambda each: each.kind == b"Z", 20)
        assert errors_of(heard) == ["08001"]
        assert "permission denied" in fields_of(heard[0])["D"]
        wire.ask(query("BEGIN"), query("SELECT 1"), ready=2)
        assert wire.value("SELECT 1") == "1"
    pg18.execute("DROP DATABASE closed")


def test_asyncpg_and_psycopg_listen(weir: Pgweir) -> None:
    async def listen() -> list[str]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        one = await asyncpg.connect(weir.dsn(database="one"))
        two = await asyncpg.connect(weir.dsn(database="one"))
        await one.add_listener("drivers", lambda *said: heard.put_nowait(str(said[3])))
        for number in range(5):
            await two.execute(f"SELECT pg_notify('drivers', '{number}')")
        async with asyncio.timeout(10):
            told = [await heard.get() for _ in range(5)]
        await one.close()
        await two.close()
        return told

    assert asyncio.run(listen()) == list("01234")
    with psycopg.connect(weir.dsn(database="one"), autocommit=True) as connection:
        connection.execute("LISTEN drivers")
        connection.execute("NOTIFY drivers, 'own'")
        (told,) = connection.notifies(timeout=10, stop_after=1)
        assert (told.payload, told.pid) == ("own", connection.info.backend_pid)
