"""Clients that append numbered rows through the proxy and write down what they were told.

Each client appends to a list of its own. Afterwards the table is held against their notes: what was
acknowledged must be there exactly once, what was refused must not, only what was called unknown
(`08007`) may be either, and nothing may be there that nobody wrote.
"""

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import asyncpg

from tests.fixtures.postgres import Postgres

TABLE = "CREATE TABLE appended (client int, number int); GRANT ALL ON appended TO app"
Row = tuple[int, int]
_OUTCOME_UNKNOWN = "08007"


@dataclass
class Notes:
    """What the clients were told. Times are monotonic seconds of acknowledgements, per client."""

    acknowledged: list[Row] = field(default_factory=list)
    unknown: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    disconnected: int = 0
    times: dict[int, list[float]] = field(default_factory=dict)

    def longest_pauses(self) -> list[float]:
        """Of each client, the longest time between two acknowledgements."""
        return [
            max(after - before for before, after in pairwise(each))
            for each in self.times.values()
            if len(each) > 1
        ]

    @property
    def pause_s(self) -> float:
        """The pause that the median client saw."""
        return statistics.median(self.longest_pauses())

    def first_after(self, moment: float) -> float:
        """Seconds from a moment until writes went on: the end of the longest silence after it.

        What was on its way at that moment is acknowledged right after it.
        """
        times = sorted(at for each in self.times.values() for at in each if at >= moment)
        silences = ((after - before, after) for before, after in pairwise([moment, *times]))
        return max(silences)[1] - moment


class Appender:
    """Clients that append until told to stop. dsns: each client goes to the next of them."""

    def __init__(self, dsns: Sequence[str], clients: int, pause_s: float = 0.0) -> None:
        self.notes = Notes()
        self._dsns = dsns
        self._pause_s = pause_s
        self._stop = asyncio.Event()
        self._clients = clients
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        connections = await asyncio.gather(
            *(
                asyncpg.connect(self._dsns[number % len(self._dsns)], ssl=False)
                for number in range(self._clients)
            )
        )
        self._tasks = [
            asyncio.create_task(self._append(number, connection))
            for number, connection in enumerate(connections)
        ]

    async def stop(self) -> Notes:
        self._stop.set()
        _, hanging = await asyncio.wait(self._tasks, timeout=60.0)
        assert not hanging, f"{len(hanging)} clients hang"
        return self.notes

    async def until_acknowledged(self, count: int = 1, limit_s: float = 30.0) -> None:
        """Wait until each client has been told of `count` more commits."""
        had = {number: len(times) for number, times in self.notes.times.items()}

        def is_so() -> bool:
            times = self.notes.times
            clients = range(self._clients)
            return all(len(times.get(n, ())) >= had.get(n, 0) + count for n in clients)

        await self._until(is_so, limit_s)

    async def until_refused(self, sqlstate: str, count: int, limit_s: float = 30.0) -> None:
        """Wait until clients have got this error so many times."""
        await self._until(lambda: self.notes.errors[sqlstate] >= count, limit_s)

    @staticmethod
    async def _until(is_so: Callable[[], bool], limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            while True:
                if is_so():
                    return
                await asyncio.sleep(0.02)

    async def _append(self, client: int, connection: asyncpg.Connection) -> None:
        number = 0
        times = self.notes.times.setdefault(client, [])
        try:
            while not self._stop.is_set():
                number += 1
                # Half of them in a transaction of their own, half without.
                await self._append_one(connection, (client, number), in_block=client % 2 == 0)
                times.append(time.monotonic()) if self._was_told(client, number) else None
                await asyncio.sleep(self._pause_s)
        except (OSError, asyncpg.InterfaceError):
            self.notes.disconnected += 1
        finally:
            connection.terminate()

    def _was_told(self, client: int, number: int) -> bool:
        told = self.notes.acknowledged
        return bool(told) and (client, number) in told[-2 * self._clients :]

    async def _append_one(self, connection: asyncpg.Connection, row: Row, in_block: bool) -> None:
        insert = "INSERT INTO appended VALUES ($1, $2)"
        try:
            if in_block:
                await connection.execute("BEGIN")
            await connection.execute(insert, *row)
            if in_block:
                done = await connection.execute("COMMIT")
                if done == "ROLLBACK":
                    self.notes.refused.append(row)
                    return
        except asyncpg.PostgresError as error:
            self.notes.errors[error.sqlstate or "?"] += 1
            is_unknown = error.sqlstate == _OUTCOME_UNKNOWN
            (self.notes.unknown if is_unknown else self.notes.refused).append(row)
            if in_block:
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("ROLLBACK")
        else:
            self.notes.acknowledged.append(row)


@contextlib.asynccontextmanager
async def appending(
    *dsns: str, clients: int = 32, pause_s: float = 0.01
) -> AsyncIterator[Appender]:
    """Clients for the length of a block; the notes are complete after it."""
    appender = Appender(dsns, clients, pause_s)
    await appender.start()
    try:
        yield appender
    finally:
        await appender.stop()


@dataclass(frozen=True)
class History:
    """The notes held against the table."""

    lost: list[Row]
    doubled: list[Row]
    invented: list[Row]
    unfailed: list[Row]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.unfailed)


def check(notes: Notes, node: Postgres) -> History:
    """What is lost, there twice, written by nobody, or there although it was refused."""
    there = Counter((client, number) for client, number in node.fetch("TABLE appended"))
    known = {*notes.acknowledged, *notes.unknown}
    refused = set(notes.refused)
    return History(
        lost=[row for row in notes.acknowledged if row not in there],
        doubled=[row for row, count in there.items() if count > 1],
        invented=[row for row in there if row not in known and row not in refused],
        unfailed=[row for row in there if row in refused],
    )
