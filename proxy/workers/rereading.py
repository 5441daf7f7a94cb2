"""A database's catalogue is read at first, after changes, and now and then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from proxy.cluster.catalogue import OddAnswerError
from proxy.telemetry import LimitedLog

EVERY_S = 60.0
AGAIN_S = 1.0
TIMEOUT_S = 10.0
_REFUSED_S = 15.0
# A migration has many statements: the catalogue is read behind the last of those that come close.
_SETTLES_S = 0.1


async def keep_reading(
    read: Callable[[], Awaitable[float]],
    wake: asyncio.Event,
    failures: LimitedLog,
    what: str,
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Read, again when woken and from time to time, as long as it is wanted.

    read: does so once and says when to do so again, seconds. what: for the log, where it raises.
    """
    while True:
        wake.clear()
        pause_s = EVERY_S
        try:
            pause_s = await read()
        except Exception as bug:  # noqa: BLE001 -- top of a task: it must go on
            failures.log(logging.ERROR, f"reading {what} failed", {}, bug)
        try:
            async with asyncio.timeout(pause_s):
                await wake.wait()
            await asyncio.sleep(_SETTLES_S)
        except TimeoutError:
            pass
        if not is_wanted():
            return


def pause_after(failed: Exception) -> float:
    """When to ask again, seconds: who may not log in is not let in a second later either.

    Nor does a node that answers what was not asked do better then.
    """
    return _REFUSED_S if isinstance(failed, asyncpg.PostgresError | OddAnswerError) else AGAIN_S
