"""Nodes as pools see them, and which of them serve a target now. Pure."""

from dataclasses import dataclass

from proxy.server import Place


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node as pools see it.

    role: primary or replica. roles: the operator's words for it. max_connections: server
    connections it takes from us, 0 when that is not known. is_sure: its last probe was answered.
    weight: its share of the reads beside other replicas. is_near: in the proxy's own zone.
    """

    name: str
    place: Place
    role: str
    roles: tuple[str, ...] = ()
    is_up: bool = True
    max_connections: int = 0
    is_sure: bool = True
    weight: int = 1
    is_near: bool = False


def pick_nodes(nodes: tuple[NodePlace, ...], target: str) -> list[NodePlace]:
    """The nodes that serve a target now: the primary, the replicas, or those with that role.

    Without a node for the target it is the primary: an answer that is late is better than none.
    """
    primary = [node for node in nodes if node.role == "primary"]
    if target == "primary":
        return primary
    if target == "replica":
        wanted = [node for node in nodes if node.role == "replica" and node.is_up]
    else:
        wanted = [node for node in nodes if target in node.roles and node.is_up]
    return wanted or primary


def pick_readers(nodes: tuple[NodePlace, ...], target: str) -> list[NodePlace]:
    """The nodes that statements may be sent to which are for replicas, or for that role: none but
    those that answered their last probe, while there are any."""
    if target == "replica":
        wanted = [node for node in nodes if node.role == "replica" and node.is_up and node.weight]
    else:
        wanted = [node for node in nodes if target in node.roles and node.is_up]
    return [node for node in wanted if node.is_sure] or wanted
