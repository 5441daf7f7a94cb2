"""Reads of databases' catalogues: one for all who ask something of the same database.

Some route by what functions write, some look for what they leave; each reads every minute. Who
comes after another gets what was read for both.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from proxy.cluster import NodeAddress, ProbeLogin
from proxy.cluster.catalogue import CatalogueRows, Rows, SuspectRows, ask
from proxy.workers.rereading import EVERY_S, TIMEOUT_S

_Kind = type[CatalogueRows] | type[SuspectRows]
_R = TypeVar("_R", CatalogueRows, SuspectRows)
Ask = Callable[[NodeAddress, ProbeLogin, float, Collection[_Kind]], Coroutine[Any, Any, list[Rows]]]


@dataclass(slots=True, eq=False)
class _Database:
    """What is known of one. kinds: what has been asked for. changes: of it that were seen."""

    kinds: list[_Kind] = field(default_factory=list)
    rows: dict[_Kind, Rows] = field(default_factory=dict)
    read_from: NodeAddress | None = None
    read_s: float = 0.0
    changes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Catalogues:
    """Those of all databases, for one process."""

    def __init__(self, clock: Callable[[], float], ask_node: Ask = ask) -> None:
        self._clock = clock
        self._ask = ask_node
        self._databases: dict[tuple[str, str], _Database] = {}

    def changed(self, cluster: str, dbname: str) -> None:
        """What was read before is out of date."""
        database = self._databases.get((cluster, dbname))
        if database is not None:
            database.changes += 1
            database.rows.clear()

    async def read(
        self, kind: type[_R], cluster: str, dbname: str, address: NodeAddress, login: ProbeLogin
    ) -> tuple[_R, float]:
        """Read this of a database. Result: rows, and in how many seconds to read again.

        Raises what asyncpg and the socket raise.
        """
        database = self._databases.setdefault((cluster, dbname), _Database())
        if kind not in database.kinds:
            database.kinds.append(kind)
        async with database.lock:
            age_s = self._clock() - database.read_s
            rows = database.rows.pop(kind, None)
            if rows is None or address != database.read_from or age_s >= EVERY_S:
                changes = database.changes
                database.read_from, database.read_s = address, self._clock()
                age_s = 0.0
                # Meanwhile somebody may come who asks something else.
                kinds = tuple(database.kinds)
                answers = await self._ask(address, login, TIMEOUT_S, kinds)
                read = dict(zip(kinds, answers, strict=True))
                rows = read.pop(kind)
                # Each is given away once: who asks again wants to know it anew.
                database.rows = read if changes == database.changes else {}
        return cast(_R, rows), EVERY_S - age_s
