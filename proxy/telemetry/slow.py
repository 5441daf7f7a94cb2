"""The log of slow statements: one line each, constants left out unless the operator wants them.

Who calls it decides what is slow. A flood of them does not become a flood of lines: after the first
few of ten seconds the rest are counted.
"""

import logging
from collections.abc import Callable, Mapping

from proxy.relay import Ended
from proxy.telemetry.fingerprints import Fingerprint
from proxy.telemetry.flood import LimitedLog

LINES_A_PERIOD = 50

_log = logging.getLogger("pgweir.slow")


class SlowLog:
    """Writes the lines, to the log of the proxy."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._lines = LimitedLog(_log, clock, burst=LINES_A_PERIOD)

    def write(
        self,
        ended: Ended,
        whose: Mapping[str, object],
        fingerprint: Fingerprint,
        text: bytes,
        traceparent: str | None = None,
    ) -> None:
        """Log one. whose: client and node. text: shown in place of the fingerprint's, if any."""
        facts: dict[str, object] = {
            "ms": round(ended.spent_s * 1e3, 3),
            "wait_ms": round(ended.waited_s * 1e3, 3),
            "work_ms": round((ended.spent_s - ended.waited_s) * 1e3, 3),
            **whose,
            "rows": ended.rows,
            "bytes": ended.received_bytes,
            "fingerprint": fingerprint.id,
            "statement": text or fingerprint.text,
        }
        if ended.sqlstate is not None:
            facts["sqlstate"] = ended.sqlstate
        if traceparent is not None:
            facts["traceparent"] = traceparent
        self._lines.log(logging.WARNING, "slow statement", facts)

    def tick(self) -> None:
        """Say how many lines were left out in periods that are over."""
        self._lines.report_ended()
