"""Which nodes is a cluster served from? From the picture to who plays which part. Pure.

Called by the composition root for every new picture. `primary`: the discovered primary, and the
replicas as replicas. `any` and `first` take no notice of roles: what PgBouncer makes of its hosts,
of which it asks nothing but a connection.
"""

from typing import Literal

from proxy.cluster.view import ClusterView, NodeView, Role

ServeFrom = Literal["primary", "any", "first"]


def cast_nodes(view: ClusterView, serve_from: ServeFrom) -> list[tuple[NodeView, Role]]:
    """The nodes that serve, each with the part it plays.

    With `any` and `first`, a node is in it until it is known to be down, and when all are, all are:
    who connects is told why it does not work.
    """
    if serve_from == "primary":
        return [
            (node, "primary" if node.name == view.primary else "replica")
            for node in view.nodes
            if node.name == view.primary or node.role == "replica"
        ]
    there = [node for node in view.nodes if node.state != "down"] or list(view.nodes)
    if serve_from == "first":
        there = there[:1]
    return [(node, "primary") for node in there]
