"""What blocks is done aside: in threads, so many at once, and each waited for only so long.

A thread cannot be stopped. One that hangs (a directory that never answers, a PAM module) keeps its
place until it is done, so that there are never more of them; it does not keep the program from
ending.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Logins judged at once; the next waits its turn.
_AT_ONCE = 16


class Aside:
    """Runs what blocks. One for each kind of work, so that one kind does not hold up another."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._places = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do this in a thread. timeout_s: for waiting for a place, too.

        Raises TimeoutError, and what the work raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._places.release()
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def carry_out() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
                failed = error
            try:
                loop.call_soon_threadsafe(settle, result, failed)
            except RuntimeError:  # the loop has ended meanwhile, and so has whoever waited
                return

        async with asyncio.timeout(timeout_s):
            await self._places.acquire()
            # A daemon: an executor's threads would be waited for when the program ends.
            threading.Thread(target=carry_out, name="aside", daemon=True).start()
            return await done
