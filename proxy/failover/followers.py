"""The nodes that are not the primary: replicas are led to it, who else claims to be is fenced."""

import asyncio
import logging
from collections import Counter

from proxy.cluster import ClusterView, NodeView
from proxy.failover import orders
from proxy.failover.decision import claimants
from proxy.failover.site import FAILURES, Site, told
from proxy.failover.strays import Strays, why_left_alone

_log = logging.getLogger("pgweir.failover")

_FOLLOW_S = 60.0
_FENCE_AGAIN_S = 5.0


class Followers:
    """Those of one cluster. changing_roles: while it is locked, a stray is left alone."""

    def __init__(self, site: Site, changing_roles: asyncio.Lock) -> None:
        self._site = site
        self._changing_roles = changing_roles
        self._strays = Strays()
        # By name of the replica: how many tasks are leading it.
        self._leading: Counter[str] = Counter()
        self._fenced_at: dict[str, float] = {}
        self._split: frozenset[str] = frozenset()

    # --- replicas ------------------------------------------------------------------------------

    def lead(self, replica: NodeView, primary: NodeView, timeline: int) -> None:
        """Let a replica stream from the new primary; it is reported if it does not."""
        self._site.spawn(self._lead(replica, primary, timeline))

    async def _lead(self, replica: NodeView, primary: NodeView, timeline: int) -> None:
        """Task: the same."""
        self._leading[replica.name] += 1
        try:
            await self._lead_to(replica, primary, timeline, _FOLLOW_S)
        except TimeoutError:
            reason = f"{replica.name} does not stream from {primary.name}: it is left out"
        except FAILURES as failed:
            reason = f"{replica.name} cannot be led to {primary.name}: {told(failed)}"
        else:
            self._site.note("replica", replica.name, f"{replica.name} streams from {primary.name}")
            self._site.poke(replica.name)
            return
        finally:
            self._leading[replica.name] -= 1
        self._site.note("replica", replica.name, reason, level=logging.WARNING)

    async def lead_all(self, old: NodeView, upstream: NodeView, limit_s: float) -> None:
        """Lead every replica of the old primary behind another node. Raises as the first failed."""
        others = [
            node
            for node in self._site.view.replicas
            if node.name != upstream.name and node.state == "up" and not node.stale
        ]
        await asyncio.gather(
            *(self._lead_to(each, upstream, old.timeline or 0, limit_s) for each in others)
        )

    def gather_strays(self, view: ClusterView) -> None:
        """Lead replicas that have come back to the primary of now."""
        primary = view.primary_node
        if self._site.terms.dry_run or primary is None or primary.timeline is None:
            return
        for replica in self._strays.due(view, self._site.clock(), set(+self._leading)):
            if replica.diverged:
                reason = f"{replica.name} {replica.reason}; it is left out"
                self._site.note("replica", replica.name, reason, level=logging.WARNING)
                continue
            self._site.spawn(self._lead_back(replica, primary, primary.timeline))

    async def _lead_back(self, replica: NodeView, primary: NodeView, timeline: int) -> None:
        """Task: lead a stray, unless it follows whom it should."""
        try:
            async with self._site.connection(replica) as connection:
                upstream = (await orders.read_upstream(connection)).conninfo
        except (*FAILURES, TimeoutError) as failed:
            _log.info("%s cannot be asked whom it follows: %s", replica.name, told(failed))
            return
        left = why_left_alone(replica, upstream, self._site.view)
        if left is not None:
            self._site.note("replica", replica.name, left)
        elif self._site.view.primary == primary.name and not self._changing_roles.locked():
            await self._lead(replica, primary, timeline)

    async def _lead_to(
        self, replica: NodeView, upstream: NodeView, timeline: int, limit_s: float
    ) -> None:
        """Let a replica stream from another node, and wait until it does so on a timeline."""
        address = upstream.address.replication
        async with self._site.connection(replica) as connection:
            before = await orders.read_upstream(connection)
            if before.slot:
                async with self._site.connection(upstream) as at_upstream:
                    await orders.make_slot(at_upstream, before.slot)
            await orders.follow(connection, before, address)
            await orders.until_streaming(connection, before, address, timeline, limit_s)

    # --- those that claim to be primary --------------------------------------------------------

    @property
    def split_brain(self) -> int:
        """How many nodes take writes that must not."""
        return len(self._split)

    def note_split(self, view: ClusterView) -> None:
        """Two nodes that take writes are the worst that can happen: it is said loudly."""
        winner = view.primary_node
        others = claimants(view, winner) if winner is not None else []
        split = frozenset(node.name for node in others if not node.read_only)
        for name in sorted(split - self._split):
            self._site.note(
                "fencing",
                name,
                f"split brain: {name} takes writes although {view.primary} is the primary;"
                " what is written there is lost for the others",
                level=logging.ERROR,
            )
        for name in sorted(self._split - split):
            self._site.note("fencing", name, f"{name} takes no writes beside the primary any more")
        self._split = split

    def fence(self, view: ClusterView) -> None:
        """Keep former primaries from taking writes, where that is wanted."""
        if not self._site.terms.fence:
            return
        now = self._site.clock()
        for name in self._split:
            if now - self._fenced_at.get(name, -_FENCE_AGAIN_S) >= _FENCE_AGAIN_S:
                self._fenced_at[name] = now
                self._site.spawn(self._forbid_writes(view.node(name)))

    async def _forbid_writes(self, node: NodeView) -> None:
        """Task: make a node read-only and end its clients."""
        note = self._site.note
        try:
            async with self._site.connection(node) as connection:
                await orders.forbid_writes(connection)
                await orders.end_clients(connection)
        except (*FAILURES, TimeoutError) as failed:
            reason = f"{node.name} cannot be made read-only: {told(failed)}"
            note("fencing", node.name, reason, level=logging.ERROR)
            return
        note("fencing", node.name, f"{node.name} was made read-only, its clients were ended")
        self._site.poke(node.name)
