"""From a healthy primary to a successor, without an error and with everything written.

The way: clients wait, and running transactions finish; the old primary takes no writes any more;
the successor gets what it lacks; it is promoted. What fails before that is taken back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from proxy.cluster import NodeView
from proxy.errors import ClientError
from proxy.failover import orders
from proxy.failover.followers import Followers
from proxy.failover.lease import CoordinatorUnavailable, Grant, Lease
from proxy.failover.promotion import Promotions
from proxy.failover.site import FAILURES, Site, told
from proxy.failover.terms import Hands

_PREPARE_S = 5.0
_DRAIN_LOOK_S = 0.01

Holding = Callable[[str], AbstractAsyncContextManager[None]]
"""For a block, with its reason: nobody is served by a primary; who waits goes on waiting."""


class Handover:
    """Those of one cluster."""

    def __init__(
        self,
        site: Site,
        hands: Hands,
        followers: Followers,
        promotions: Promotions,
        holding: Holding,
    ) -> None:
        self._site = site
        self._hands = hands
        self._followers = followers
        self._promotions = promotions
        self._holding = holding

    async def hand_over(self, old: NodeView, successor: NodeView, lease: Lease) -> str:
        """Make a successor the primary. Result: what was done. Raises ClientError."""
        site = self._site
        grant = await self._take_for(successor, lease)
        began = site.clock()
        why = f"{old.name} hands over to {successor.name}"
        site.note("switchover", successor.name, why)
        try:
            async with self._holding(why):
                await self._drain(old)
                await self._prepare(old, successor)
                timeline = await self._succeed(old, successor, grant)
        except ClientError:
            await grant.abandon(began=site.view.node(successor.name).in_recovery is not True)
            raise
        except BaseException:
            grant.drop()
            raise
        site.spawn(grant.finish(site.terms.rules.min_interval_s))
        held_s = site.clock() - began
        self._promotions.done(
            successor, old, timeline=timeline, began=began, result="switched_over", reason=why
        )
        return (
            f"{successor.name} is the primary of cluster {site.cluster} on timeline {timeline};"
            f" clients waited {held_s:.2f} s"
        )

    async def _take_for(self, successor: NodeView, lease: Lease) -> Grant:
        """The lease for a switchover. Raises ClientError."""
        try:
            grant = await lease.take(successor.name)
        except CoordinatorUnavailable as failed:
            raise ClientError("55000", f"who may change roles is unknown: {failed}") from None
        if grant is not None and grant.node == successor.name:
            return grant
        if grant is not None:
            await grant.abandon(began=True)
        raise ClientError("55006", "another proxy is changing roles, or has just changed them")

    async def _drain(self, old: NodeView) -> None:
        """Wait until no client uses the old primary any more. Raises ClientError."""
        limit_s = self._site.terms.drain_timeout_s
        until = self._site.clock() + limit_s
        while (left := self._hands.count_servers(self._site.cluster, old.name)) > 0:
            if self._site.clock() >= until:
                reason = (
                    f"{left} server connections to {old.name} are still in use after drain_timeout"
                    f" ({limit_s:g} s): nothing was changed"
                )
                self._promotions.failed(reason, old.name)
                raise ClientError(
                    "55006", reason, hint="Long transactions, session mode or pinned clients."
                )
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def _prepare(self, old: NodeView, successor: NodeView) -> None:
        """Stop the old primary and give the successor what it lacks. Raises ClientError.

        The old primary is alive and goes on writing WAL of its own (checkpoints, snapshots for
        standbys). So the other replicas are led behind the successor first: one that had received
        more than the successor when that was promoted could not follow it.
        """
        limit_s = self._site.terms.drain_timeout_s or _PREPARE_S
        try:
            async with self._site.connection(old) as at_old:
                await orders.forbid_writes(at_old)
                position = await orders.end_of_wal(at_old, limit_s)
            await self._site.until_seen(old.name, lambda node: node.read_only)
            await self._followers.lead_all(old, successor, limit_s)
            async with self._site.connection(successor) as at_successor:
                await orders.until_received(at_successor, position, limit_s)
        except (*FAILURES, TimeoutError) as failed:
            await self._take_back(old, successor)
            raise self._refusal(old, successor, failed) from None
        except BaseException:
            await self._take_back(old, successor)
            raise

    async def _succeed(self, old: NodeView, successor: NodeView, grant: Grant) -> int:
        """Promote a successor that has everything. Result: its timeline. Raises ClientError."""
        try:
            timeline = await self._promotions.promote(successor, old.timeline or 0, grant)
            await self._promotions.until_primary(successor.name)
        except (*FAILURES, TimeoutError) as failed:
            with contextlib.suppress(TimeoutError):
                await self._site.until_asked_again(successor.name)
                if self._site.view.node(successor.name).in_recovery:
                    await self._take_back(old, successor)
            raise self._refusal(old, successor, failed) from None
        return timeline

    async def _take_back(self, old: NodeView, successor: NodeView) -> None:
        """Let the old primary go on as if nothing had been."""
        try:
            async with self._site.connection(old) as at_old:
                await orders.allow_writes(at_old)
        except (*FAILURES, TimeoutError) as failed:
            reason = f"{old.name} is still told to take no writes: {told(failed)}"
            self._site.note("switchover", old.name, reason, level=logging.ERROR)
        for node in self._site.view.replicas:
            if node.name != successor.name and node.state == "up":
                self._followers.lead(node, old, old.timeline or 0)

    def _refusal(self, old: NodeView, successor: NodeView, failed: BaseException) -> ClientError:
        reason = f"{old.name} could not hand over to {successor.name}: {told(failed)}"
        self._promotions.failed(reason, successor.name)
        return ClientError("55000", reason, hint="The proxy's log has the reason.")
