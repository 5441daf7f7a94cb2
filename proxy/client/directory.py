"""Users that the database knows: a query finds their secrets (PgBouncer's `auth_query`).

One connection per cluster, to its primary. It is the proxy's own: nothing a client sent reaches it
but the name of the user, and that as a parameter; its search_path is pg_catalog alone. Many logins
of one user ask once. What was answered is kept in `FoundSecrets`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from proxy.auth import FoundSecrets, Secret, SecretError, read_found
from proxy.cluster import DIALLING_FAILURES, NodeAddress, ProbeLogin, diagnose, dial
from proxy.errors import ClientError
from proxy.telemetry import LimitedLog

_log = logging.getLogger("pgweir.client")

# For one question: to find the primary, to connect and to be answered.
_ANSWER_S = 5.0
# A database that has just failed is not tried for every login.
_FAILED_S = 0.5
_PRIMARY_LOOKED_FOR_EVERY_S = 0.05
# PostgreSQL: NAMEDATALEN; no role has a longer name.
_MOST_NAME_BYTES = 63
_SETTINGS = {"application_name": "pgweir auth_query", "search_path": "pg_catalog"}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What to ask, and as whom, by cluster; one that is absent is not asked.

    queries: `$1` is the name; the columns are name and secret. ttl_s: how long an answer holds.
    """

    queries: Mapping[str, str]
    logins: Mapping[str, ProbeLogin]
    ttl_s: float


class _CannotAsk(Exception):  # noqa: N818 -- a fact about the database
    """There was no answer."""


@dataclass(slots=True)
class _Desk:
    """Where one cluster is asked. address: of the node that `connection` goes to."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: Any = None
    address: NodeAddress | None = None
    failed_s: float = float("-inf")

    def hang_up(self) -> None:
        connection, self.connection, self.address = self.connection, None, None
        if connection is not None:
            connection.terminate()


class Directory:
    """Finds the secrets of users by asking the clusters.

    primary_of: the node of a cluster to ask, None while there is none. clock: monotonic seconds.
    """

    def __init__(
        self,
        inquiry: Inquiry,
        primary_of: Callable[[str], NodeAddress | None],
        clock: Callable[[], float],
    ) -> None:
        self.inquiry = inquiry
        self._primary_of = primary_of
        self._clock = clock
        self._found = FoundSecrets(inquiry.ttl_s)
        self._desks = {cluster: _Desk() for cluster in inquiry.logins}
        self._asking: dict[tuple[str, str], asyncio.Task[Secret | None]] = {}
        self._lines = LimitedLog(_log, clock)

    async def find(self, cluster: str, user: str) -> Secret | None:
        """Give a user's secret, or None when there is no such user or it may not log in.

        Raises ClientError (08001) when that cannot be known.
        """
        if cluster not in self._desks:
            return None
        who = (cluster, user)
        found = self._found.find(who)
        if found is not None and self._found.is_fresh(found, self._clock()):
            return found.secret
        try:
            return await self._ask_once(who)
        except _CannotAsk:
            if found is not None:
                return found.secret
            raise ClientError(
                "08001",
                "users cannot be looked up: the database that knows them did not answer",
                hint="Try again; the proxy's log says why it cannot be asked.",
            ) from None

    def doubt(self, cluster: str, user: str) -> None:
        """A login by what was found has been refused: find it anew before the next."""
        self._found.doubt((cluster, user))

    def close(self) -> None:
        """Hang up everywhere; who still waits is told that nobody can be asked."""
        for task in self._asking.values():
            task.cancel()
        for desk in self._desks.values():
            desk.hang_up()

    def tick(self) -> None:
        """Once in a while: say what was left out of the log."""
        self._lines.report_ended()

    async def _ask_once(self, who: tuple[str, str]) -> Secret | None:
        """Ask, together with everybody who wants to know the same at this moment."""
        task = self._asking.get(who)
        if task is None:
            task = asyncio.create_task(self._ask(*who), name="auth_query")
            self._asking[who] = task
            task.add_done_callback(lambda done: self._forget(who, done))
        # One client's leaving must not take the answer from the others.
        await asyncio.wait({task})
        if task.cancelled():
            raise _CannotAsk
        return task.result()

    def _forget(self, who: tuple[str, str], done: asyncio.Task[Secret | None]) -> None:
        self._asking.pop(who, None)
        # Looked at here, because all who asked may have left.
        if not done.cancelled():
            done.exception()

    async def _ask(self, cluster: str, user: str) -> Secret | None:
        asked_s = self._clock()
        if not _can_be_a_name(user):
            return None
        desk = self._desks[cluster]
        if asked_s - desk.failed_s < _FAILED_S:
            raise _CannotAsk
        try:
            async with asyncio.timeout(_ANSWER_S), desk.lock:
                try:
                    rows = await self._fetch(desk, cluster, user)
                except asyncpg.PostgresError:
                    raise  # the connection is as good as before
                except BaseException:
                    desk.hang_up()
                    raise
        except DIALLING_FAILURES as error:
            if desk.connection is None:
                desk.failed_s = self._clock()
            reason = "no answer in time" if isinstance(error, TimeoutError) else diagnose(error)[1]
            self._lines.log(
                logging.ERROR, "auth_query failed", {"cluster": cluster, "reason": reason}
            )
            raise _CannotAsk from None
        secret = self._read(cluster, user, rows)
        self._found.keep((cluster, user), secret, asked_s)
        return secret

    async def _fetch(self, desk: _Desk, cluster: str, user: str) -> list[Any]:
        address = await self._wait_for_primary(cluster)
        is_new = desk.address != address or desk.connection.is_closed()
        if is_new:
            await self._connect(desk, cluster, address)
        try:
            return list(await desk.connection.fetch(self.inquiry.queries[cluster], user))
        except (asyncpg.InterfaceError, ConnectionError, asyncpg.OperatorInterventionError):
            if is_new:
                raise
        # The kept connection was gone, which the node need not be.
        await self._connect(desk, cluster, address)
        return list(await desk.connection.fetch(self.inquiry.queries[cluster], user))

    async def _connect(self, desk: _Desk, cluster: str, address: NodeAddress) -> None:
        desk.hang_up()
        desk.connection = await dial(address, self.inquiry.logins[cluster], _SETTINGS)
        desk.address = address

    async def _wait_for_primary(self, cluster: str) -> NodeAddress:
        """The primary; right after the start it takes a moment to be found."""
        # Monitors come and go with reloads, so there is nothing that lives long enough to wait on.
        while (address := self._primary_of(cluster)) is None:  # noqa: ASYNC110
            await asyncio.sleep(_PRIMARY_LOOKED_FOR_EVERY_S)
        return address

    def _read(self, cluster: str, user: str, rows: list[Any]) -> Secret | None:
        try:
            return read_found(user, rows)
        except SecretError as refused:
            self._lines.log(
                logging.ERROR,
                "auth_query cannot be used",
                {"cluster": cluster, "user": user, "reason": refused},
            )
            return None


def _can_be_a_name(user: str) -> bool:
    try:
        return len(user.encode()) <= _MOST_NAME_BYTES
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
