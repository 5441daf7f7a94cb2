"""What is different between two pictures of a cluster? Each change once, as a sentence. Pure.

The monitor publishes when there is any and logs each as one line; an event log may keep them.
Lag and positions move all the time and are no change.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.cluster.view import ClusterView, NodeView


@dataclass(frozen=True, slots=True)
class Change:
    """One change: `sentence` for a log, `facts` beside it, `alarming` when somebody should look."""

    sentence: str
    alarming: bool
    facts: Mapping[str, str | int | float | bool | None]


def changes_between(before: ClusterView, after: ClusterView) -> list[Change]:
    """List what changed, nodes first in the order declared, the cluster's primary last."""
    known = {node.name: node for node in before.nodes}
    changes = [
        _node_change(after, known.get(node.name), node)
        for node in after.nodes
        if node.name not in known or _shape(known[node.name]) != _shape(node)
    ]
    left = {node.name for node in after.nodes}
    changes += [
        Change(
            f"node {node.name} is no longer declared",
            alarming=False,
            facts={"cluster": after.name, "node": node.name},
        )
        for node in before.nodes
        if node.name not in left
    ]
    if (before.primary, before.reason) != (after.primary, after.reason):
        changes.append(_primary_change(before, after))
    return changes


def _shape(node: NodeView) -> tuple[object, ...]:
    """What makes a node different to those who use it."""
    return (
        node.address,
        node.state,
        node.role,
        node.stale,
        node.slow,
        node.read_only,
        node.timeline,
        node.system_identifier,
    )


def _all_heard_of(cluster: ClusterView) -> bool:
    return all(node.state != "unknown" for node in cluster.nodes)


def _node_change(cluster: ClusterView, before: NodeView | None, after: NodeView) -> Change:
    role = f" as {after.role}" if after.role else ""
    stale = ", stale" if after.stale else ""
    alarming = after.state in ("suspect", "down") or after.stale or after.slow
    kept_out = after.state == "up" and after.role is None and _all_heard_of(cluster)
    return Change(
        f"node {after.name} is {after.state}{role}{stale}: {after.reason}",
        alarming=alarming or kept_out,
        facts={
            "cluster": cluster.name,
            "node": after.name,
            "host": after.address.host,
            "port": after.address.port,
            "state": after.state,
            "was": "undeclared" if before is None else before.state,
            "role": after.role,
            "timeline": after.timeline,
            "lag_bytes": after.lag_bytes,
        },
    )


def _primary_change(before: ClusterView, after: ClusterView) -> Change:
    if after.primary is None:
        sentence = f"cluster {after.name} has no primary: {after.reason}"
    else:
        sentence = f"{after.primary} is the primary of cluster {after.name}: {after.reason}"
    return Change(
        sentence,
        # Before the first answers there is nothing to be alarmed about.
        alarming=after.primary is None and _all_heard_of(after),
        facts={"cluster": after.name, "primary": after.primary, "was": before.primary},
    )
