"""What clients were told, held against what is there: full disks, and failover again and again.

As in `test_failover`, with a synchronous standby. Whoever was acknowledged finds its row exactly
once, whoever was refused does not find it, and only what was called unknown may be either.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import asyncpg
import pytest

from tests.fixtures.disks import mounted
from tests.fixtures.postgres import DATABASE, SYNCHRONOUS, Background, Postgres
from tests.live.appending import TABLE, History, Notes, Row, appending, check
from tests.live.arena import (
    CLIENTS,
    Arena,
    an_arena,
    an_arena_with_a_disk,
    promoting,
    run_out_of_wal,
)


@pytest.fixture(scope="module")
def arena(
    postgres_background: Background, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("histories")
    with an_arena(postgres_background, folder, SYNCHRONOUS, promoting()) as arena:
        yield arena


@pytest.mark.usefixtures("may_mount")
async def test_a_primary_that_cannot_write_its_wal_is_replaced(
    arena: Arena, tmp_path: Path
) -> None:
    """PostgreSQL panics, cannot recover without room for its WAL either, and is gone."""
    arena.until_settled()
    old = arena.primary
    arena.weir.send(signal.SIGSTOP)
    try:
        with an_arena_with_a_disk(arena.cluster, tmp_path, promoting()) as (beside, disk):
            beside.until_settled()
            notes = await beside.load_through(lambda: run_out_of_wal(old, disk))
            new = beside.primary_among([node for node in arena.cluster.nodes if node is not old])
            assert beside.promoted() == 1
    finally:
        arena.weir.send(signal.SIGCONT)
    assert "No space left on device" in old.node.read_log()
    assert notes.disconnected == 0
    assert set(notes.errors) <= {"08006", "08007"}
    history = check(notes, new)
    assert history.is_clean, history
    arena.rebuild(old)


@pytest.mark.usefixtures("may_mount")
async def test_a_primary_without_room_for_its_tables_is_not_replaced(arena: Arena) -> None:
    """It answers, reads, and refuses what needs room: its clients hear so, and go on later."""
    arena.until_settled()
    old, before = arena.primary, arena.promoted()
    # Within the data folder, or the nodes of one machine would share it.
    in_place = {"allow_in_place_tablespaces": "on"}
    direct = await asyncpg.connect(old.superuser_dsn, ssl=False, server_settings=in_place)
    await direct.execute("CREATE TABLESPACE small LOCATION ''")
    await direct.close()
    (oid,) = old.fetch("SELECT oid FROM pg_tablespace WHERE spcname = 'small'")[0]
    try:
        with mounted(old.node.place.data / "pg_tblspc" / str(oid)) as disk:
            table = TABLE.replace("int);", "int) TABLESPACE small;")
            old.execute(f"DROP TABLE IF EXISTS appended; {table}")
            async with appending(arena.weir.dsn(), clients=CLIENTS) as appender:
                await appender.until_acknowledged(3)
                disk.fill()
                await appender.until_refused("53100", CLIENTS)
                reader = await asyncpg.connect(arena.weir.dsn(), ssl=False)
                assert await reader.fetchval("SELECT count(*) FROM appended") > 0
                await reader.close()
                disk.free()
                await appender.until_acknowledged(3)
            notes = appender.notes
            assert (set(notes.errors), notes.unknown, notes.disconnected) == ({"53100"}, [], 0)
            history = check(notes, old)
            assert history.is_clean, history
            old.execute("DROP TABLE appended; CHECKPOINT")
    finally:
        old.execute("DROP TABLESPACE small", database=DATABASE)
    assert (arena.primary, arena.promoted()) == (old, before)


async def test_one_history_through_failover_again_and_again(arena: Arena) -> None:
    """The same clients all the time, while one primary after another dies and becomes a replica."""
    arena.until_settled()
    before = arena.promoted()
    faults: list[Callable[[Postgres], None]] = [Postgres.kill, Postgres.freeze, Postgres.kill]
    arena.primary.execute(f"DROP TABLE IF EXISTS appended; {TABLE}")
    async with appending(arena.weir.dsn(), clients=CLIENTS) as appender:
        for fault in faults:
            await appender.until_acknowledged(3)
            old = arena.primary
            await asyncio.to_thread(fault, old)
            await appender.until_acknowledged(3, limit_s=60.0)
            await asyncio.to_thread(old.kill)
            await asyncio.to_thread(arena.rebuild, old)
    notes = appender.notes
    assert arena.promoted() == before + len(faults)
    assert notes.disconnected == 0
    assert set(notes.errors) <= {"08006", "08007"}
    history = check(notes, arena.primary)
    assert history.is_clean, history


class Kept:
    """A node with these rows."""

    def __init__(self, *rows: Row) -> None:
        self._rows = rows

    def fetch(self, sql: str) -> list[Row]:
        return list(self._rows)


def test_the_checker_finds_each_way_in_which_a_history_is_wrong() -> None:
    notes = Notes(acknowledged=[(1, 1), (1, 2)], unknown=[(2, 1)], refused=[(3, 1)])

    def held_against(*rows: Row) -> History:
        return check(notes, cast("Postgres", Kept(*rows)))

    assert held_against((1, 1), (1, 2)).is_clean
    assert held_against((1, 1), (1, 2), (2, 1)).is_clean
    assert held_against((1, 1)).lost == [(1, 2)]
    assert held_against((1, 1), (1, 2), (1, 2)).doubled == [(1, 2)]
    assert held_against((1, 1), (1, 2), (4, 1)).invented == [(4, 1)]
    assert held_against((1, 1), (1, 2), (3, 1)).unfailed == [(3, 1)]
