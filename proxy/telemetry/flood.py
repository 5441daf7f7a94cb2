"""Keeps a flood of the same line from becoming the second attack.

A refusal costs a stranger one packet; it must not cost us a line each. The first few of a kind are
logged in full, the rest of the period as one line that says how many there were.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Period:
    """What happened to one message since `started_s`."""

    level: int
    started_s: float
    logged: int = 0
    suppressed: int = 0


class LimitedLog:
    """A logger that writes each message a bounded number of times per period.

    clock: seconds, monotonic. burst: lines of one message per period, in full. period_s: seconds.
    max_messages: messages remembered at once; messages are constants in our code, so there are few,
    and one that is not cannot make us remember more.
    """

    def __init__(
        self,
        logger: logging.Logger,
        clock: Callable[[], float],
        *,
        burst: int = 20,
        period_s: float = 10.0,
        max_messages: int = 64,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._burst = burst
        self._period_s = period_s
        self._max_messages = max_messages
        self._periods: dict[str, _Period] = {}

    def log(
        self,
        level: int,
        message: str,
        facts: Mapping[str, object],
        failure: BaseException | None = None,
    ) -> None:
        """Log the message with its facts, or count it when there were too many like it.

        failure: an exception whose traceback belongs to the line.
        """
        if not self._logger.isEnabledFor(level):
            return
        now_s = self._clock()
        period = self._periods.get(message)
        if period is None or now_s - period.started_s >= self._period_s:
            period = self._begin(message, level, now_s)
        if period.logged < self._burst:
            period.logged += 1
            self._logger.log(level, message, exc_info=failure, extra={"facts": facts})
        else:
            period.suppressed += 1

    def report_ended(self) -> None:
        """Say how many lines were suppressed in periods that are over; for a coarse tick."""
        now_s = self._clock()
        for message, period in list(self._periods.items()):
            if now_s - period.started_s >= self._period_s:
                self._end(message)

    def report_all(self) -> None:
        """The same for every period, over or not; for the end of the process."""
        for message in list(self._periods):
            self._end(message)

    def _begin(self, message: str, level: int, now_s: float) -> _Period:
        if message in self._periods:
            self._end(message)
        elif len(self._periods) >= self._max_messages:
            self._end(next(iter(self._periods)))
        period = self._periods[message] = _Period(level, now_s)
        return period

    def _end(self, message: str) -> None:
        period = self._periods.pop(message)
        if period.suppressed:
            self._logger.log(
                period.level,
                "%s: %d more suppressed",
                message,
                period.suppressed,
                extra={"facts": {"suppressed": period.suppressed, "period_s": self._period_s}},
            )
