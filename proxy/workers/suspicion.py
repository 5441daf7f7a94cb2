"""What may the functions of a database leave in the sessions of those who use them?

One task for each database reads its catalogue, at first, after changes and now and then, and tells
the lines of its clients which names are suspects. Only where `server_reset` is `smart`: otherwise
nothing is left, or nobody minds.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakSet

from proxy.cluster import DIALLING_FAILURES, NodeAddress, ProbeLogin
from proxy.cluster.catalogue import SuspectRows
from proxy.config import Policy
from proxy.relay import Line, Suspects
from proxy.session.suspects import Suspect, find_suspects
from proxy.tasks import in_thread
from proxy.telemetry import LimitedLog
from proxy.workers.catalogues import Catalogues
from proxy.workers.rereading import AGAIN_S, EVERY_S, keep_reading, pause_after

_log = logging.getLogger("pgweir.session")


@dataclass(slots=True, eq=False)
class _Code:
    """The functions of one database. found: the suspects among them, as they were read last.

    known: the same for the relay, None before they were read, and without suspects. is_doubted:
    not read yet, or not since they changed.
    """

    cluster: str
    dbname: str
    lines: WeakSet[Line] = field(default_factory=WeakSet)
    rows: SuspectRows | None = None
    is_doubted: bool = True
    found: list[Suspect] = field(default_factory=list)
    known: Suspects | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def tell(self, suspects: Suspects | None) -> None:
        """Let all lines know."""
        for line in self.lines:
            line.suspects = suspects


class Suspicion:
    """Suspects of all databases, for one process.

    primary_of: a cluster's primary now. login_of: how to ask a database of a cluster.
    """

    def __init__(
        self,
        primary_of: Callable[[str], NodeAddress | None],
        login_of: Callable[[str, str], ProbeLogin],
        catalogues: Catalogues,
        clock: Callable[[], float],
    ) -> None:
        self._catalogues = catalogues
        self._primary_of = primary_of
        self._login_of = login_of
        self._failures = LimitedLog(_log, clock)
        self._codes: dict[tuple[str, str], _Code] = {}

    def watch(self, policy: Policy, line: Line) -> None:
        """Tell this line from now on, as its policy may have changed."""
        for each in self._codes.values():
            each.lines.discard(line)
        line.suspects = None
        if policy.server_reset != "smart" or policy.pool_mode == "session":
            return
        key = policy.cluster, policy.dbname
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = _Code(*key)
            code.task = asyncio.get_running_loop().create_task(self._keep_reading(code))
        code.lines.add(line)
        line.suspects = code.known

    def schema_changed(self, cluster: str, dbname: str) -> None:
        """Something was created, altered or dropped: until that is read, every text is suspect.

        What names a suspect that was known leaves settings of the names that were known, too.
        """
        code = self._codes.get((cluster, dbname))
        if code is not None and code.rows is not None:
            code.is_doubted = True
            code.tell(Suspects(code.found, suspects_all=True))
            code.wake.set()

    def close(self) -> list[asyncio.Task[None]]:
        """End its tasks; whoever closes waits for them."""
        tasks = [code.task for code in self._codes.values() if code.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _keep_reading(self, code: _Code) -> None:
        """Task: one database's functions, as long as there are lines to tell."""
        await keep_reading(
            lambda: self._read(code),
            code.wake,
            self._failures,
            "functions",
            lambda: bool(code.lines),
        )
        del self._codes[code.cluster, code.dbname]

    async def _read(self, code: _Code) -> float:
        """Read them once, where somebody may use them. Result: when to do so again, seconds."""
        if not code.is_doubted and not any(line.clients for line in code.lines):
            return EVERY_S
        address = self._primary_of(code.cluster)
        if address is None:
            return AGAIN_S
        try:
            login = self._login_of(code.cluster, code.dbname)
            rows, again_s = await self._catalogues.read(
                SuspectRows, code.cluster, code.dbname, address, login
            )
        except KeyError:
            # The cluster is no longer declared.
            return EVERY_S
        except DIALLING_FAILURES as failed:
            self._failures.log(
                logging.WARNING,
                "the catalogue cannot be read: what functions leave in a session is not seen",
                {"cluster": code.cluster, "database": code.dbname, "reason": str(failed)},
            )
            return pause_after(failed)
        if rows != code.rows:
            code.found = await in_thread(find_suspects, rows.code, rows.uses, rows.expressions)
            code.rows = rows
            code.known = Suspects(code.found) if code.found else None
        if not code.wake.is_set():
            # Else it has changed meanwhile.
            code.is_doubted = False
            code.tell(code.known)
        return again_s
