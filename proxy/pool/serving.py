"""Which pools serve which lines: as the nodes are now, and as the configuration has it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from proxy.config import Policy
from proxy.pool.applying import apply_policy, apply_to_pool
from proxy.pool.basin import Basin, Spring
from proxy.pool.ended import Ended
from proxy.pool.nodes import NodePlace, pick_nodes, pick_readers
from proxy.relay import Horizon, Line, Pool
from proxy.server import Place
from proxy.telemetry import BUCKET_BOUNDS_S


class Routing(Protocol):
    """What routes statements, as pools see it."""

    def targets_of(self, policy: Policy) -> tuple[str, ...]:
        """What statements may be routed to beside the primary; nothing where none are."""

    def connect(self, policy: Policy, lines: Mapping[str, Line]) -> None:
        """Let these lines, by target, have what decides between them; `primary` is among them."""

    def watch(self, policy: Policy, line: Line) -> None:
        """Let the line of a database's clients know what may change their sessions unseen."""

    def horizon_of(self, cluster: str) -> Horizon | None:
        """How far the cluster's nodes are; None where nobody needs to know."""


class Serving:
    """Gives lines their pools, and lets those run dry that serve none any more.

    place_of: a node's place with the TLS that a policy asks for.
    nodes: as last published, by cluster. apart: pools that serve no line any more, or one client
    alone, while they have connections.
    """

    def __init__(
        self, routing: Routing, place_of: Callable[[Place, Policy], Place], ended: Ended
    ) -> None:
        self._routing = routing
        self._place_of = place_of
        self._ended = ended
        self.nodes: dict[str, tuple[NodePlace, ...]] = {}
        self.apart: set[Pool] = set()

    def connect(self, basin: Basin) -> None:
        """Give it a line for each target of its statements, and what decides between them."""
        policy = basin.policy
        self._routing.watch(policy, basin.line)
        targets = self._routing.targets_of(policy)
        for target in targets:
            if target not in basin.reads:
                basin.reads[target] = Line(
                    policy.database, policy.user, "replica", BUCKET_BOUNDS_S, target
                )
            apply_policy(basin.reads[target], policy)
        gone = [basin.reads.pop(target) for target in set(basin.reads) - set(targets)]
        if targets:
            self._routing.connect(policy, {"primary": basin.line, **basin.reads})
        else:
            basin.line.router = None
        for line in gone:
            self._ended.count_reads(line)
            line.serve_from([])
            line.send_on()

    def serve(self, basin: Basin) -> None:
        """Serve its lines from the nodes that are right now; other pools of it run dry."""
        policy = basin.policy
        known = tuple(
            replace(node, place=self._place_of(node.place, policy))
            for node in self.nodes.get(policy.cluster, ())
        )
        fit = tuple(node for node in known if node.name not in basin.shunned)
        serving = {target: pick_readers(fit, target) for target in basin.reads}
        # What decides about statements also knows where all of a client's go.
        at_home = pick_nodes(known, "primary" if basin.reads else policy.target)
        nodes = list(
            {node.name: node for picked in (at_home, *serving.values()) for node in picked}.values()
        )
        for name, pool in list(basin.pools.items()):
            node = next((node for node in nodes if node.name == name), None)
            if node is None or pool.owner.node.place != node.place or pool.role != node.role:
                del basin.pools[name]
                self._retire(pool)
        for node in nodes:
            if node.name not in basin.pools:
                basin.pools[node.name] = self._new_pool(basin.policy, node)
            basin.pools[node.name].weight = max(node.weight, 1)
            basin.pools[node.name].is_near = node.is_near
        basin.line.lacks_primary = (
            not at_home
            and (bool(basin.reads) or policy.target == "primary")
            and any(node.is_up for node in known)
        )
        basin.line.serve_from([basin.pools[node.name] for node in at_home])
        for target, picked in serving.items():
            line = basin.reads[target]
            pools = [basin.pools[node.name] for node in picked]
            if pools != line.pools:
                line.serve_from(pools)
                line.send_on()

    def drop(self, basin: Basin) -> None:
        """Close its pools as they become free."""
        for pool in basin.pools.values():
            self._retire(pool)
        basin.pools.clear()
        for line in basin.lines:
            line.serve_from([])

    def room_of(self, pool: Pool) -> int:
        """How many connections its node takes, as last published; 0 when that is not known."""
        node: NodePlace = pool.owner.node
        known = (each for each in self.nodes.get(pool.cluster, ()) if each.name == node.name)
        return next(known, node).max_connections

    def _retire(self, pool: Pool) -> None:
        self._ended.count_pool(pool)
        pool.retire()
        if pool.servers:
            self.apart.add(pool)

    def _new_pool(self, policy: Policy, node: NodePlace) -> Pool:
        pool = Pool(
            policy.cluster,
            node.name,
            node.role,
            policy.database,
            policy.user,
            policy.pool_size,
            policy.max_prepared_statements,
        )
        apply_to_pool(pool, policy)
        pool.owner = Spring(policy, node, {"database": policy.dbname, **policy.server_settings})
        pool.horizon = self._routing.horizon_of(policy.cluster)
        return pool
