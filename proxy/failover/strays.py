"""Which replicas follow nobody, or somebody who is the primary no more? Pure.

A replica that was down while another node was promoted comes back and looks for the old primary. It
is led to the new one: once when it has been back for a moment, and again, ever more seldom, while
that has not helped.
"""

from collections.abc import Collection
from dataclasses import dataclass

from proxy.cluster import ClusterView, NodeView
from proxy.cluster.conninfo import parse_conninfo

# One that only reconnects is back within that time.
_PATIENCE_S = 3.0
_AGAIN_S = 60.0
_MOST_S = 960.0


@dataclass(slots=True)
class _Appearance:
    """Of a stray. led_at: when to lead it, again_s: how long to wait after that."""

    primary: str
    lead_at: float
    again_s: float = _AGAIN_S


class Strays:
    """Remembers who strays since when. now: on one clock."""

    def __init__(self) -> None:
        self._known: dict[str, _Appearance] = {}

    def due(self, view: ClusterView, now: float, busy: Collection[str]) -> list[NodeView]:
        """Who is to be led to the primary now. busy: who is being led already."""
        primary = view.primary_node
        found = find_strays(view)
        names = {node.name for node in found} - set(busy)
        self._known = {name: it for name, it in self._known.items() if name in names}
        due = []
        for node in found:
            if primary is None or node.name in busy:
                continue
            known = self._known.get(node.name)
            if known is None or known.primary != primary.name:
                self._known[node.name] = _Appearance(primary.name, now + _PATIENCE_S)
            elif now >= known.lead_at:
                known.lead_at = now + known.again_s
                known.again_s = min(known.again_s * 2, _MOST_S)
                due.append(node)
        return due


def find_strays(view: ClusterView) -> list[NodeView]:
    """Replicas that answer, and do not get the WAL of a primary that answers too."""
    primary = view.primary_node
    if primary is None or primary.state != "up" or primary.timeline is None:
        return []
    return [
        node
        for node in view.replicas
        if node.state == "up"
        and node.in_recovery
        and node.stale
        # Ahead of the primary it could not follow it.
        and (node.timeline or 0) <= primary.timeline
    ]


def why_left_alone(node: NodeView, conninfo: str, view: ClusterView) -> str | None:
    """Why a stray is not led to the primary, or None. conninfo: what it has been told."""
    words = parse_conninfo(conninfo)
    if not words:
        return f"{node.name} has no primary_conninfo that can be changed: it is left as it is"
    for other in view.replicas:
        host, port = other.address.replication
        follows = (words.get("host"), words.get("port", "5432")) == (host, str(port))
        if follows and other.name != node.name and other.state == "up" and not other.stale:
            return f"{node.name} is told to follow {other.name}, a replica: it is left as it is"
    return None
