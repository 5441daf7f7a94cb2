"""What passed through lines and pools that are no more: it still counts."""

from collections import Counter

from proxy.pool.basin import Basin
from proxy.pool.traffic import Traffic, traffic_of
from proxy.relay import Line, Pool


class Ended:
    """Counts of lines and pools, kept when those go.

    queries: statements by (database, node, role). routed: requests by (database, target, reason).
    traffic: by database.
    """

    def __init__(self) -> None:
        self.queries: Counter[tuple[str, str, str]] = Counter()
        self.routed: Counter[tuple[str, str, str]] = Counter()
        self.traffic: dict[str, Traffic] = {}

    def count_pool(self, pool: Pool) -> None:
        """A pool goes."""
        if pool.query_count:
            self.queries[pool.database, pool.node, pool.role] += pool.query_count

    def count_reads(self, line: Line) -> None:
        """A line of what else statements were routed to goes."""
        self.routed.update(routed_by(line))

    def count_basin(self, basin: Basin) -> None:
        """A line of clients goes."""
        database = basin.policy.database
        before = self.traffic.get(database, Traffic())
        self.traffic[database] = before.plus(traffic_of(basin.line))


def routed_by(line: Line) -> dict[tuple[str, str, str], int]:
    """A line's requests by (database, target, reason)."""
    return {
        (line.database, line.target, reason): count for reason, count in line.routed_counts.items()
    }
