"""What a node is told when roles change: promote, follow, take no writes. SQL over asyncpg.

Each function takes a connection of the monitor's user and does one thing. What PostgreSQL refuses,
it refuses with its own words: they are what an operator needs to grant a right.

Every name is qualified, because the search path is the role's and not ours.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg

from proxy.cluster import APPLICATION_NAME
from proxy.cluster.conninfo import has_many_hosts, lead_to, parse_conninfo

_LOOK_AGAIN_S = 0.02
# A startup process that sleeps for wal_retrieve_retry_interval tries at once when it is woken.
_WAKE_S = 0.25

_TIMELINE = """
SELECT pg_catalog.pg_is_in_recovery() AS in_recovery,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
         ('x' || pg_catalog.substr(
            pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)
         )::pg_catalog.bit(32)::pg_catalog.int8
       END AS timeline
"""
_RECEIVER = """
SELECT w.status, w.received_tli AS timeline, w.conninfo FROM pg_catalog.pg_stat_wal_receiver w
"""
_UPSTREAM = """
SELECT pg_catalog.current_setting('primary_conninfo') AS conninfo,
       pg_catalog.current_setting('primary_slot_name') AS slot
"""
_CLIENTS = """
SELECT a.pid FROM pg_catalog.pg_stat_activity a
 WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.application_name <> $1
"""
_FORBIDDEN = """
SELECT true FROM pg_catalog.pg_settings s
 WHERE s.name = 'default_transaction_read_only' AND s.setting = 'on'
   AND s.sourcefile LIKE '%postgresql.auto.conf'
"""
# Not before it has committed a transaction id is it known to take writes. It waits for no standby:
# those that it would wait for have not been told of it yet.
_WRITE = """
BEGIN READ WRITE;
SET LOCAL synchronous_commit = local;
SELECT pg_catalog.txid_current();
COMMIT
"""


class OrderFailed(Exception):  # noqa: N818 -- a fact about a node, not an error of ours
    """A node did not do what it was told. Says why."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a replica streams from: its connection string, and the slot it asks for, or ''."""

    conninfo: str
    slot: str


async def promote(connection: Any) -> None:
    """Tell a standby to become the primary. Raises OrderFailed, and what asyncpg raises."""
    # Without `wait`: it would look only ten times a second.
    if not await connection.fetchval("SELECT pg_catalog.pg_promote(wait => false)"):
        raise OrderFailed("pg_promote could not signal the server")


async def until_promoted(connection: Any, timeline: int, limit_s: float) -> int:
    """Wait until it takes writes. timeline: the one it leaves. Result: its new one.

    Raises OrderFailed, TimeoutError, and what asyncpg raises.
    """
    async with asyncio.timeout(limit_s):
        while True:
            row = await connection.fetchrow(_TIMELINE)
            if not row["in_recovery"]:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
    if row["timeline"] <= timeline:
        raise OrderFailed(f"it is on timeline {row['timeline']}, which is not above {timeline}")
    await connection.execute(_WRITE)
    return int(row["timeline"])


def was_refused(failed: BaseException) -> bool:
    """Whether a node has said no to an order, so that it will not carry it out."""
    if isinstance(failed, OrderFailed):
        return True
    # Class 57 and 08: the session has ended, perhaps after the order was carried out.
    sqlstate = failed.sqlstate if isinstance(failed, asyncpg.PostgresError) else None
    return sqlstate is not None and sqlstate[:2] not in ("57", "08")


async def read_upstream(connection: Any) -> Upstream:
    """Where a replica streams from."""
    row = await connection.fetchrow(_UPSTREAM)
    return Upstream(row["conninfo"], row["slot"])


async def follow(connection: Any, upstream: Upstream, address: tuple[str, int]) -> None:
    """Let a replica stream from another address, by everything else it has been told.

    Raises OrderFailed where its connection string cannot be understood.
    """
    conninfo = lead_to(upstream.conninfo, *address)
    if conninfo is None and not has_many_hosts(parse_conninfo(upstream.conninfo)):
        raise OrderFailed("its primary_conninfo is not of the form key=value")
    if conninfo is not None and conninfo != upstream.conninfo:
        await connection.execute(f"ALTER SYSTEM SET primary_conninfo = {quote_literal(conninfo)}")
    await reload(connection)


async def until_streaming(
    connection: Any, upstream: Upstream, address: tuple[str, int], timeline: int, limit_s: float
) -> None:
    """Wait until a replica streams this timeline from this address. Raises TimeoutError.

    upstream: what it was told before. If that lists several hosts, it has chosen one itself.
    """
    is_led = lead_to(upstream.conninfo, *address) is not None
    wanted = (address[0], str(address[1])) if is_led else None
    clock = asyncio.get_running_loop().time
    wake_at = clock() + _WAKE_S
    async with asyncio.timeout(limit_s):
        while True:
            row = await connection.fetchrow(_RECEIVER)
            if row is not None and (row["status"], row["timeline"]) == ("streaming", timeline):
                words = parse_conninfo(row["conninfo"] or "")
                if wanted in (None, (words.get("host"), words.get("port"))):
                    return
            if clock() >= wake_at:
                wake_at = clock() + _WAKE_S
                await reload(connection)
            await asyncio.sleep(_LOOK_AGAIN_S)


async def make_slot(connection: Any, name: str) -> None:
    """Let the primary keep WAL for a replica that asks for a slot of this name."""
    known = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1"
    if not await connection.fetchval(known, name):
        await connection.fetchval(
            "SELECT pg_catalog.pg_create_physical_replication_slot($1, true)", name
        )


async def forbid_writes(connection: Any) -> None:
    """Let new transactions be read-only unless they insist. Those of now go on.

    It is all that SQL can do to a primary; a transaction may still say READ WRITE.
    """
    await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await reload(connection)


async def end_of_wal(connection: Any, limit_s: float) -> str:
    """Where the WAL of a primary ends once its clients are gone, all of it flushed; as text.

    Raises TimeoutError when they do not go.
    """
    async with asyncio.timeout(limit_s):
        while await connection.fetch(_CLIENTS, APPLICATION_NAME):
            await asyncio.sleep(_LOOK_AGAIN_S)
            await end_clients(connection)
    # Of its own: it also flushes what others committed without waiting for the disk.
    await connection.execute(_WRITE)
    return str(await connection.fetchval("SELECT pg_catalog.pg_current_wal_flush_lsn()::text"))


async def until_received(connection: Any, position: str, limit_s: float) -> None:
    """Wait until a standby has all WAL up to a position. Raises TimeoutError."""
    has_it = "SELECT pg_catalog.pg_last_wal_receive_lsn() >= $1::text::pg_catalog.pg_lsn"
    async with asyncio.timeout(limit_s):
        while True:
            if await connection.fetchval(has_it, position):
                return
            await asyncio.sleep(_LOOK_AGAIN_S)


async def allow_writes(connection: Any) -> None:
    """Take `forbid_writes` back; what the operator wrote in postgresql.conf stays."""
    if await connection.fetchval(_FORBIDDEN):
        await allow_writes_for_sure(connection)


async def allow_writes_for_sure(connection: Any) -> None:
    """The same where `forbid_writes` may not have come into force yet, which cannot be seen."""
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await reload(connection)


async def end_clients(connection: Any) -> int:
    """End every session of a client but the monitor's. Result: how many there were."""
    pids = [row["pid"] for row in await connection.fetch(_CLIENTS, APPLICATION_NAME)]
    for pid in pids:
        await connection.fetchval("SELECT pg_catalog.pg_terminate_backend($1)", pid)
    return len(pids)


async def reload(connection: Any) -> None:
    """Let it read its configuration again."""
    await connection.fetchval("SELECT pg_catalog.pg_reload_conf()")


def quote_literal(text: str) -> str:
    """Quote a value for ALTER SYSTEM, which takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
