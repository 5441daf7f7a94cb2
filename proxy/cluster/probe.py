"""One node, one kept connection, one question at a time.

A `Probe` belongs to one task of the monitor. It never raises because of the node: whatever goes
wrong becomes a `Sample` that says so. What it means for the cluster is `judge`'s business.
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from proxy.cluster.diagnosis import diagnose, is_lost
from proxy.cluster.dialling import DIALLING_FAILURES, ProbeLogin, dial
from proxy.cluster.question import (
    FULL_QUESTION,
    REDUCED_QUESTION,
    missing_rights,
    read_answer,
)
from proxy.cluster.view import Failure, NodeAddress, Sample

__all__ = ["Probe", "ProbeLogin"]

_log = logging.getLogger("pgweir.cluster")

# A question is given this many timeouts before its connection is thrown away. An answer that
# comes in the second one is a late answer of a living node, not a failure: slow is not dead.
_TIMEOUTS_TO_WAIT = 2

# A host name may come to mean another machine while the old one still answers (a cloud
# provider's failover): the connection is replaced now and then, to ask the name again.
_NAME_TRUSTED_S = 30.0

# The server is too old, its functions were revoked, or it is not quite PostgreSQL.
_QUESTION_TOO_MUCH = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
)


class Probe:
    """Asks one node about itself, over a connection that is kept open between questions.

    timeout_s: how long `sample` waits. clock: seconds, monotonic, for the samples' times.
    on_lost: called in the event loop when the node ends the kept connection between questions.
    Close it with `aclose` (`contextlib.aclosing` fits); closing leaves no task and no connection.
    """

    def __init__(
        self,
        address: NodeAddress,
        login: ProbeLogin,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self._login = login
        self._timeout_s = timeout_s
        self._clock = clock
        self._on_lost = on_lost
        self._connection: Any = None
        self._statement: Any = None
        self._question = FULL_QUESTION
        self._dialled_at = 0.0
        self._asking: asyncio.Task[Sample] | None = None
        self._asked_at = 0.0
        self._timeouts = 0
        self._warned: set[str] = set()

    async def sample(self) -> Sample:
        """Ask, and return what came of it after `timeout_s` at the latest.

        When the last question is still open its answer is waited for once more; only then is the
        connection given up. Cancelled, it closes everything.
        """
        if self._asking is None:
            self._asked_at = self._clock()
            self._timeouts = 0
            self._asking = asyncio.create_task(self._ask(), name=f"probe {self.address.name}")
        try:
            await asyncio.wait({self._asking}, timeout=self._timeout_s)
            if not self._asking.done():
                return await self._overdue()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        asking, self._asking = self._asking, None
        return asking.result()

    async def aclose(self) -> None:
        """Drop the connection and end the open question. Takes no round trip."""
        asking, self._asking = self._asking, None
        # In this order: cancelling a running query would make asyncpg dial a CancelRequest to a
        # node that may never answer it.
        self._hang_up()
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})
            self._hang_up()

    async def _overdue(self) -> Sample:
        waited_s = self._clock() - self._asked_at
        self._timeouts += 1
        if self._timeouts >= _TIMEOUTS_TO_WAIT:
            await self.aclose()
        return Sample(
            at=self._asked_at,
            round_trip_s=waited_s,
            failure=Failure.NO_ANSWER,
            reason=f"no answer within {waited_s:.1f} s",
        )

    async def _ask(self) -> Sample:
        """Task: from the question to a sample, of success or of failure."""
        try:
            return await self._answer()
        except Exception as error:  # noqa: BLE001 -- top of a task; becomes the sample's reason
            self._hang_up()
            failure, reason = diagnose(error)
            return Sample(
                at=self._asked_at,
                round_trip_s=self._clock() - self._asked_at,
                failure=failure,
                reason=reason,
            )

    async def _answer(self) -> Sample:
        if self._connection is not None and self._name_is_old():
            await self._redial()
        if self._connection is not None:
            try:
                return await self._put_question()
            except Exception as error:
                if not is_lost(error):
                    raise
                self._hang_up()
        self._take(await dial(self.address, self._login))
        return await self._put_question()

    async def _redial(self) -> None:
        """Replace a good connection by a new one; failing that, keep it and try another time.

        One DNS failure must not look like a dead node while the node still talks to us.
        """
        self._dialled_at = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s / 2):
                fresh = await dial(self.address, self._login)
        except DIALLING_FAILURES as error:
            failure, reason = diagnose(error)
            _log.debug("redialling %s: %s: %s", self.address.name, failure.value, reason)
            return
        self._hang_up()
        self._take(fresh)

    def _take(self, connection: Any) -> None:
        self._connection = connection
        self._dialled_at = self._clock()
        connection.add_termination_listener(self._notice_loss)
        # Rights may have been granted since.
        self._question = FULL_QUESTION

    async def _put_question(self) -> Sample:
        """One round trip: the statement is prepared once per connection."""
        while True:
            try:
                if self._statement is None:
                    self._statement = await self._connection.prepare(self._question)
                at = self._clock()
                row = await self._statement.fetchrow()
            except _QUESTION_TOO_MUCH as error:
                if self._question is REDUCED_QUESTION:
                    raise
                self._question, self._statement = REDUCED_QUESTION, None
                self._warn(f"cannot read its control file and system identifier ({error})")
            else:
                lack = missing_rights(row)
                if lack is not None:
                    self._warn(lack)
                return self._read(row, at)

    def _read(self, row: Mapping[str, Any], at: float) -> Sample:
        return read_answer(row, at, self._clock() - at)

    def _warn(self, lack: str) -> None:
        """Say once, for as long as this node is watched, what the probe may not see."""
        if lack in self._warned:
            return
        self._warned.add(lack)
        _log.warning(
            "the monitor's user sees less of node %s than it should: %s",
            self.address.name,
            lack,
            extra={"facts": {"node": self.address.name, "user": self._login.user}},
        )

    def _hang_up(self) -> None:
        connection, self._connection, self._statement = self._connection, None, None
        if connection is not None:
            connection.terminate()

    def _notice_loss(self, connection: Any) -> None:
        # Called for every end of a connection; one that we ended is no longer ours by then.
        if connection is self._connection and self._asking is None and self._on_lost is not None:
            self._on_lost()

    def _name_is_old(self) -> bool:
        return _is_name(self.address.host) and (self._clock() - self._dialled_at >= _NAME_TRUSTED_S)


def _is_name(host: str) -> bool:
    """Whether the host has to be resolved: not an address, not a folder of a Unix socket."""
    if host.startswith("/"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
