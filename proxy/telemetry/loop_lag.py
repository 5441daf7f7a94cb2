"""How late the event loop is: the one figure that tells an overloaded proxy from a slow server.

A timer asks to be called at a time and notes how much later it was. Everything in the proxy that
runs on the loop, the relay's wake-ups included, was late by as much.
"""

import asyncio
import time
from collections.abc import Callable

from proxy.telemetry.counting import Durations
from proxy.telemetry.figures import Histogram


class LoopLag:
    """Measures one event loop.

    interval_s: between two looks, seconds; a look costs a few microseconds.
    clock: seconds, monotonic. Not the loop's own: uvloop's stands still within a turn of the loop,
    which is the very time we are after. uvloop's timers count whole milliseconds, so figures below
    that are noise.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._clock = clock
        self._durations = Durations()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin to look; does nothing when it has begun."""
        if self._timer is None:
            self._ask_again()

    def stop(self) -> None:
        """Look no more; what was counted stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self) -> Histogram:
        """All lags seen so far."""
        return self._durations.read()

    def _ask_again(self) -> None:
        self._due_s = self._clock() + self._interval_s
        self._timer = self._loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        self._durations.add(self._clock() - self._due_s)
        self._ask_again()
