"""The main job: a client talks through the proxy to PostgreSQL."""

import asyncpg

from tests.fixtures.pgweir import Pgweir


async def test_a_query_through_the_proxy_gives_its_row(pgweir: Pgweir) -> None:
    connection = await asyncpg.connect(pgweir.dsn())
    try:
        assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
    finally:
        await connection.close()
