"""The main job: a client talks through the proxy to PostgreSQL."""

import asyncio
from pathlib import Path

import asyncpg

from tests.fixtures.pgweir import Pgweir


async def test_a_query_through_the_proxy_gives_its_row(pgweir: Pgweir) -> None:
    connection = await asyncpg.connect(pgweir.dsn())
    try:
        assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
    finally:
        await connection.close()


async def test_a_process_that_serves_has_one_thread(pgweir: Pgweir) -> None:
    """With more, the kernel counts references to descriptors at every system call."""
    connection = await asyncpg.connect(pgweir.dsn())
    try:
        assert await connection.fetchval("SELECT 1") == 1
        threads = Path(f"/proc/{pgweir.process.pid}/task")
        await asyncio.to_thread(pgweir.wait_until, lambda: len(list(threads.iterdir())) == 1)
    finally:
        await connection.close()
