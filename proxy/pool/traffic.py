"""What has passed through lines, as counted in the data plane."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from proxy.relay import Line


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the process began; times in seconds.

    assignments: times a client was given a server connection. received, sent: bytes, from and to
    clients. transacted_s: of transactions, from their first request to their end. worked_s: of
    statements, without the wait for a server connection. waited_s: that wait, of those who were
    given one. parses, server_parses: statements prepared by clients, and on servers for them.
    """

    assignments: int = 0
    transactions: int = 0
    queries: int = 0
    received: int = 0
    sent: int = 0
    transacted_s: float = 0.0
    worked_s: float = 0.0
    waited_s: float = 0.0
    parses: int = 0
    server_parses: int = 0
    binds: int = 0

    def plus(self, other: "Traffic") -> "Traffic":
        """Both together."""
        return Traffic(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def minus(self, other: "Traffic") -> "Traffic":
        """What came after `other`."""
        return Traffic(*(getattr(self, name) - getattr(other, name) for name in _NAMES))


_NAMES = tuple(field.name for field in fields(Traffic))


def traffic_of(line: Line) -> Traffic:
    """Read a line's counters."""
    waited_s = line.waited_s
    return Traffic(
        line.assignments,
        line.transaction_count,
        line.query_count,
        line.received,
        line.sent,
        line.transacted_s,
        # The two are counted at different moments: one may be ahead.
        max(0.0, line.spent_s - waited_s),
        waited_s,
        line.parses,
        line.server_parses,
        line.binds,
    )


def all_of(traffics: Iterable[Traffic]) -> Traffic:
    """All together."""
    total = Traffic()
    for each in traffics:
        total = total.plus(each)
    return total
