"""SET, RESET and SHOW of pgweir.route and pgweir.consistency_key, however a driver asks."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import (
    FLUSH,
    SYNC,
    Message,
    Wire,
    address_of,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
    rows_of,
)

SHOW = "SHOW pgweir.consistency_key"
SET = "SET pgweir.consistency_key = 'user:1'"
COLUMN = (
    struct.pack("!h", 1) + b"pgweir.consistency_key\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
)
RUN = bind() + execute()


@pytest.fixture(
    scope="module",
    params=[{}, {"max_prepared_statements": 0}, {"pool_mode": "session"}],
    ids=["transaction", "statements not tracked", "session"],
)
def weir(
    request: Any, pg18: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = configuration(pg18, databases={DATABASE: {"pool_size": 2, **request.param}})
    with running(config, tmp_path_factory.mktemp("own")) as weir:
        yield weir


@pytest.fixture
def wire(weir: Pgweir) -> Iterator[Wire]:
    with Wire.connect(address_of(weir)) as wire:
        yield wire


def values(heard: list[Message]) -> list[list[bytes | None]]:
    return rows_of(heard)


def test_parse_bind_and_execute_may_come_one_by_one(wire: Wire) -> None:
    wire.ask(query(SET))
    heard = wire.ask(parse(SHOW, "s"), describe_statement("s"), SYNC)
    assert kinds_of(heard) == "1tTZ"
    assert (heard[1].body, heard[2].body) == (b"\0\0", COLUMN)
    for _ in range(2):
        heard = wire.ask(bind(name="s"), describe_portal(), execute(), SYNC)
        assert kinds_of(heard) == "2TDCZ"
        assert (heard[1].body, values(heard)) == (COLUMN, [[b"user:1"]])
        assert heard[3].body == b"SHOW\0"
    assert kinds_of(wire.ask(close_statement("s"), SYNC)) == "3Z"
    assert errors_of(wire.ask(bind(name="s"), SYNC)) == ["26000"]


def test_a_flush_is_answered(wire: Wire) -> None:
    wire.send(parse(SHOW), describe_statement(), FLUSH)
    assert kinds_of(wire.until_kind(b"T")) == "1tT"
    heard = wire.ask(RUN, SYNC)
    assert (kinds_of(heard), values(heard)) == ("2DCZ", [[b""]])


def test_a_set_is_described_and_run(wire: Wire) -> None:
    heard = wire.ask(parse(SET, "s"), describe_statement("s"), SYNC)
    assert kinds_of(heard) == "1tnZ"
    assert kinds_of(wire.ask(query(SHOW))) == "TDCZ"
    assert values(wire.ask(query(SHOW))) == [[b""]]
    assert kinds_of(wire.ask(bind(name="s"), describe_portal(), execute(), SYNC)) == "2nCZ"
    assert values(wire.ask(query(SHOW))) == [[b"user:1"]]
    assert kinds_of(wire.ask(parse("RESET pgweir.consistency_key"), RUN, SYNC)) == "12CZ"
    assert values(wire.ask(query(SHOW))) == [[b""]]


def test_they_take_their_place_in_a_pipeline(wire: Wire) -> None:
    def unit(text: str) -> bytes:
        return parse(text) + RUN

    heard = wire.ask(unit("select 1"), unit(SET), unit(SHOW), unit("select 2"), unit(SHOW), SYNC)
    assert kinds_of(heard) == "12DC" + "12C" + 3 * "12DC" + "Z"
    assert values(heard) == [[b"1"], [b"user:1"], [b"2"], [b"user:1"]]


def test_behind_an_error_they_are_not_run(wire: Wire) -> None:
    heard = wire.ask(parse("select 1/0"), RUN, parse(SET), RUN, SYNC)
    assert (kinds_of(heard), errors_of(heard)) == ("1EZ", ["22012"])
    assert values(wire.ask(query(SHOW))) == [[b""]]


def test_an_error_of_theirs_ends_the_unit(wire: Wire) -> None:
    wrong = "SET pgweir.route = 'nowhere'"
    heard = wire.ask(parse(wrong), RUN, parse("select 1"), RUN, SYNC)
    assert (kinds_of(heard), errors_of(heard)) == ("12EZ", ["22023"])
    heard = wire.ask(parse("select 1"), RUN, parse(wrong), RUN, parse("select 2"), RUN, SYNC)
    assert (kinds_of(heard), errors_of(heard)) == ("12DC" + "12EZ", ["22023"])
    assert values(wire.ask(query("select 3"))) == [[b"3"]]


@pytest.mark.parametrize("begins", ["begin", "begin; select 1"])
@pytest.mark.parametrize("simple", [True, False])
def test_an_error_of_theirs_fails_the_transaction(wire: Wire, begins: str, simple: bool) -> None:
    wrong = "SET pgweir.route = 'nowhere'"
    wire.ask(query(begins))
    said = query(wrong) if simple else parse(wrong) + RUN + SYNC
    heard = wire.ask(said)
    assert (errors_of(heard), heard[-1].body) == (["22023"], b"E")
    # In a transaction that has failed PostgreSQL answers, as ever.
    assert errors_of(wire.ask(query(SHOW))) == ["25P02"]
    assert errors_of(wire.ask(parse(SHOW), RUN, SYNC)) == ["25P02"]
    assert wire.ask(query("rollback"))[-1].body == b"I"


def test_in_a_transaction_they_are_answered_too(wire: Wire) -> None:
    wire.ask(query("begin"))
    assert kinds_of(wire.ask(parse(SHOW, "s"), describe_statement("s"), SYNC)) == "1tTZ"
    wire.ask(query("select 1"))
    heard = wire.ask(bind(name="s"), execute(), SYNC)
    assert (kinds_of(heard), heard[-1].body) == ("2DCZ", b"T")
    wire.ask(query("commit"))


def test_an_unnamed_statement_takes_the_place_of_theirs(wire: Wire) -> None:
    wire.ask(parse(SHOW), SYNC)
    wire.ask(parse("select 5"), SYNC)
    assert values(wire.ask(RUN, SYNC)) == [[b"5"]]


async def test_asyncpg_prepares_them(weir: Pgweir) -> None:
    connection = await asyncpg.connect(weir.dsn())
    statement = await connection.prepare(SHOW)
    assert [each.name for each in statement.get_attributes()] == ["pgweir.consistency_key"]
    assert await statement.fetchval() == ""
    await connection.execute(SET)
    assert await statement.fetchval() == "user:1"
    assert await connection.fetchval(SHOW) == "user:1"
    async with connection.transaction():
        assert await connection.fetchval(SHOW) == "user:1"
        async for row in connection.cursor(SHOW):
            assert row[0] == "user:1"
    await connection.close()


def test_psycopg_prepares_them(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        for _ in range(7):
            client.execute(SET, prepare=True)
            assert client.execute(SHOW, prepare=True).fetchone() == ("user:1",)
        with client.pipeline():
            first = client.execute("select 1")
            second = client.execute(SHOW)
        assert (first.fetchone(), second.fetchone()) == ((1,), ("user:1",))


def test_they_work_on_a_replica_as_well(pg_replicated: Any, tmp_path: Path) -> None:
    config = configuration(*pg_replicated.nodes, databases={DATABASE: {"read_write_split": True}})
    with running(config, tmp_path) as weir, Wire.connect(address_of(weir)) as wire:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        route = "SHOW pgweir.route"
        wire.ask(parse("SET pgweir.route = 'replica'"), RUN, SYNC)
        heard = wire.ask(parse("select pg_is_in_recovery()"), RUN, parse(route), RUN, SYNC)
        assert values(heard) == [[b"t"], [b"replica"]]


@pytest.mark.parametrize("said", [SHOW, SET, "RESET pgweir.consistency_key"])
@pytest.mark.parametrize("flush", [b"", FLUSH], ids=["", "flushed"])
def test_a_simple_query_of_it_within_a_unit_leaves_the_status_of_any_other(
    wire: Wire, said: str, flush: bytes
) -> None:
    statuses = []
    for each in ("SELECT 1", said):
        heard = wire.ask(parse("SELECT 1"), RUN, flush, query(each))
        assert not errors_of(heard)
        assert kinds_of(heard).endswith("CZ")
        statuses += [heard[-1].body, wire.ask(parse("SELECT 1"), RUN, SYNC)[-1].body]
    assert statuses[:2] == statuses[2:]
