"""From a healthy primary to a successor, without an error and with everything written.

The way: clients wait, and running transactions finish; the old primary takes no writes any more;
the successor gets what it lacks; it is promoted. What fails before that is taken back.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from proxy.cluster import NodeView
from proxy.errors import ClientError
from proxy.failover import orders
from proxy.failover.followers import Followers
from proxy.failover.lease import CoordinatorUnavailable, Grant, Lease, Notice
from proxy.failover.others import Others
from proxy.failover.promotion import PromotionFailed, Promotions
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
        grant = await self._take_for(old, successor, lease)
        why = f"{old.name} hands over to {successor.name}"
        site.note("switchover", successor.name, why)
        notice = Notice(secrets.token_hex(8), old.name, successor.name)
        others = Others(site, lease, grant, notice) if lease.is_shared else None
        try:
            if others is not None:
                await others.find()
            began = site.clock()
            async with self._holding(why):
                await self._drain(old, others)
                timeline = await self._change_roles(old, successor, grant)
        except ClientError as failed:
            self._promotions.failed(failed.message, successor.name)
            await grant.abandon(began=isinstance(failed, _HalfDone))
            raise
        except BaseException:
            grant.drop()
            raise
        return self._done(old, successor, grant, timeline, began)

    async def go_on(self, old: NodeView, successor: NodeView, lease: Lease, grant: Grant) -> None:
        """Finish what a proxy that is gone has begun: the old primary takes no writes any more.

        What cannot be done now is left as it is: nobody knows what the other one has told them.
        Raises ClientError.
        """
        why = f"{old.name} hands over to {successor.name}, which another proxy had begun"
        self._site.note("switchover", successor.name, why, level=logging.WARNING)
        notice = Notice(secrets.token_hex(8), old.name, successor.name)
        began = self._site.clock()
        async with self._holding(why):
            await Others(self._site, lease, grant, notice).have_hold()
            try:
                await self._prepare_both(old, successor, grant)
                timeline = await self._promotions.promote(successor, old.timeline or 0, grant)
            except (*FAILURES, TimeoutError, PromotionFailed) as failed:
                refusal = _HalfDone("55000", _why_not(old, successor, failed))
                self._promotions.failed(refusal.message, successor.name)
                raise refusal from None
        self._done(old, successor, grant, timeline, began)

    def _done(
        self, old: NodeView, successor: NodeView, grant: Grant, timeline: int, began: float
    ) -> str:
        self._site.spawn(grant.finish(self._site.terms.rules.min_interval_s))
        held_s = self._site.clock() - began
        self._promotions.done(
            successor,
            old,
            timeline=timeline,
            began=began,
            result="switched_over",
            reason=f"{old.name} hands over to {successor.name}",
        )
        return (
            f"{successor.name} is the primary of cluster {self._site.cluster} on timeline"
            f" {timeline}; clients waited {held_s:.2f} s"
        )

    async def _take_for(self, old: NodeView, successor: NodeView, lease: Lease) -> Grant:
        """The lease for a switchover. Raises ClientError."""
        try:
            grant = await lease.take(successor.name)
            if grant is None:
                reason = "another proxy is changing roles, or has just changed them"
                raise ClientError("55006", reason)
            if grant.node == old.name:
                await grant.aim_at(successor.name)
            if grant.node == successor.name:
                return grant
            await grant.abandon(began=True)
        except CoordinatorUnavailable as failed:
            raise ClientError("55000", f"who may change roles is unknown: {failed}") from None
        reason = f"another proxy has begun to promote {grant.node}: that is seen to first"
        raise ClientError("55006", reason, hint="Try again in a moment.")

    async def _drain(self, old: NodeView, others: Others | None) -> None:
        """Wait until no client uses the old primary any more. Raises ClientError."""
        limit_s = self._site.terms.drain_timeout_s
        until = self._site.clock() + limit_s
        if others is not None:
            await others.have_hold()
        while (left := self._hands.count_servers(self._site.cluster, old.name)) > 0:
            if self._site.clock() >= until:
                reason = (
                    f"{left} server connections to {old.name} are still in use after drain_timeout"
                    f" ({limit_s:g} s): nothing was changed"
                )
                raise ClientError(
                    "55006", reason, hint="Long transactions, session mode or pinned clients."
                )
            await asyncio.sleep(_DRAIN_LOOK_S)
        if others is not None:
            await others.until_holding(until - self._site.clock())

    async def _change_roles(self, old: NodeView, successor: NodeView, grant: Grant) -> int:
        """With nobody at the old primary. Result: the new timeline. Raises ClientError."""
        try:
            await self._prepare(old, successor, grant)
            return await self._succeed(old, successor, grant)
        except _HalfDone:
            # Who is the primary now is seen before anybody is served.
            with contextlib.suppress(TimeoutError):
                await self._site.until_asked_again(old.name, successor.name)
            if not grant.is_valid:
                await self._site.until_allowed()
            raise

    async def _prepare(self, old: NodeView, successor: NodeView, grant: Grant) -> None:
        """Stop the old primary and give the successor what it lacks. Raises ClientError."""
        try:
            await self._prepare_both(old, successor, grant)
        except (*FAILURES, TimeoutError) as failed:
            raise await self._take_back(old, successor, grant, failed) from None
        except BaseException as failed:
            await self._take_back(old, successor, grant, failed)
            raise

    async def _prepare_both(self, old: NodeView, successor: NodeView, grant: Grant) -> None:
        """The same. Raises what belongs to FAILURES, and TimeoutError.

        The old primary is alive and goes on writing WAL of its own (checkpoints, snapshots for
        standbys). So the other replicas are led behind the successor first: one that had received
        more than the successor when that was promoted could not follow it.
        """
        limit_s = self._site.terms.drain_timeout_s or _PREPARE_S
        async with self._site.connection(old) as at_old:
            _check(grant)
            await orders.forbid_writes(at_old)
            # Until now another that has the lease would let the old primary go on.
            _check(grant)
            await orders.end_clients(at_old)
            position = await orders.end_of_wal(at_old, limit_s)
        await self._site.until_seen(old.name, lambda node: node.read_only)
        _check(grant)
        await self._followers.lead_all(old, successor, limit_s)
        async with self._site.connection(successor) as at_successor:
            await orders.until_received(at_successor, position, limit_s)

    async def _succeed(self, old: NodeView, successor: NodeView, grant: Grant) -> int:
        """Promote a successor that has everything. Result: its timeline. Raises ClientError."""
        try:
            return await self._promotions.promote(successor, old.timeline or 0, grant)
        except PromotionFailed as failed:
            if not failed.was_told:
                raise await self._take_back(old, successor, grant, failed) from None
            # It may still obey: two that take writes would be worse than none.
            reason = f"{_why_not(old, successor, failed)}; {old.name} takes no writes meanwhile"
            hint = "Give the command again, if it is not done by itself."
            raise _HalfDone("55000", reason, hint=hint) from None

    async def _take_back(
        self, old: NodeView, successor: NodeView, grant: Grant, failed: BaseException
    ) -> ClientError:
        """Let the old primary go on as if nothing had been. Result: what is said to who asked."""
        reason = _why_not(old, successor, failed)
        if not grant.is_valid:
            # Whoever has the lease now goes on with it.
            return _HalfDone("55000", reason)
        try:
            async with self._site.connection(old) as at_old:
                await orders.allow_writes(at_old)
        except (*FAILURES, TimeoutError) as worse:
            reason = f"{reason}; {old.name} is still told to take no writes: {told(worse)}"
            return _HalfDone("55000", reason)
        for node in self._site.view.replicas:
            if node.name != successor.name and node.state == "up":
                self._followers.lead(node, old, old.timeline or 0)
        return ClientError("55000", reason, hint="The proxy's log has the reason.")


class _HalfDone(ClientError):  # noqa: N818 -- a fact about two nodes
    """The old primary takes no writes, and the successor may take them or not."""


def _check(grant: Grant) -> None:
    """Raise OrderFailed when the lease is ours no more."""
    if not grant.is_valid:
        raise orders.OrderFailed("the lease was lost")


def _why_not(old: NodeView, successor: NodeView, failed: BaseException) -> str:
    why = str(failed) if isinstance(failed, PromotionFailed) else told(failed)
    return f"{old.name} could not hand over to {successor.name}: {why}"
