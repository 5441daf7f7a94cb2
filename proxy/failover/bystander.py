"""What a proxy does while another has the lease, or has left its work half done.

It looks now and then at what stands where proxies agree. If somebody hands over, it says that it is
there, and then holds its own clients as that one does: until the notice is gone, and its own probes
have seen who is the primary now. If somebody has begun and has the lease no more, one of the others
takes it and does the rest.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from proxy.cluster import NodeView
from proxy.errors import ClientError
from proxy.failover import orders
from proxy.failover.handover import Handover, Holding
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Lease, Notice, Record
from proxy.failover.promotion import Promotions
from proxy.failover.site import FAILURES, SETTLE_S, Site, told
from proxy.failover.terms import Hands

_log = logging.getLogger("pgweir.failover")

_LOOK_S = 1.0
# While a notice stands.
_FOLLOW_S = 0.05
# A store that does not answer for so long has nothing to say: no holder extends its lease there.
_SILENCE_S = 10.0
# What could not be done is tried again so much later.
_AGAIN_S = 5.0


class Bystander:
    """Of one cluster. lease: the one of now. changing_roles: as for those that change them."""

    def __init__(
        self,
        site: Site,
        hands: Hands,
        *,
        lease: Callable[[], Lease],
        promotions: Promotions,
        handover: Handover,
        changing_roles: asyncio.Lock,
        holding: Holding,
    ) -> None:
        self._site = site
        self._hands = hands
        self._lease = lease
        self._promotions = promotions
        self._handover = handover
        self._changing_roles = changing_roles
        self._holding = holding
        self._take_up_at = 0.0

    async def attend(self) -> None:
        """Task: look what the others do, for ever."""
        lease = self._lease()
        try:
            while True:
                await lease.until_told(_LOOK_S)
                if (now := self._lease()) is not lease:
                    await lease.close()
                    lease = now
                terms = self._site.terms
                if lease.is_shared and terms.promotes and not terms.dry_run:
                    await self._look_safely(lease)
        finally:
            await lease.close()

    async def _look_safely(self, lease: Lease) -> None:
        cluster = self._site.cluster
        try:
            await self._look(lease)
        except CoordinatorUnavailable as failed:
            _log.debug("cluster %s: %s", cluster, failed)
        except Exception:  # noqa: BLE001 -- top of a task: a bug must not end the watch
            _log.exception("what the others do in cluster %s cannot be followed", cluster)

    async def _look(self, lease: Lease) -> None:
        record = await lease.read()
        if self._changing_roles.locked():
            return
        if record.notice is not None:
            async with self._changing_roles:
                await self._go_along(lease, record.notice)
        elif _is_left_behind(record) and self._site.clock() >= self._take_up_at:
            async with self._changing_roles:
                await self._take_up(lease, record.node or "")

    # --- somebody hands over -------------------------------------------------------------------

    async def _go_along(self, lease: Lease, notice: Notice) -> None:
        """Answer a notice and do what it asks for, as long as it stands."""
        names = {node.name for node in self._site.view.nodes}
        if not {notice.old, notice.successor} <= names:
            return  # of a configuration that is not ours: it will not count on us
        await lease.answer(Answer(notice.number, lease.member))
        followed = _Followed(lease, notice, self._site.clock)
        while not followed.is_holding:
            if await followed.is_over():
                return
            await asyncio.sleep(_FOLLOW_S)
        why = f"{notice.old} hands over to {notice.successor}, as another proxy has it"
        self._site.note("switchover", notice.successor, f"clients wait: {why}")
        async with self._holding(why):
            has_answered = False
            while not await followed.is_over():
                if not has_answered and self._is_drained(notice.old):
                    with contextlib.suppress(CoordinatorUnavailable):
                        answer = Answer(notice.number, lease.member, is_holding=True)
                        await lease.answer(answer)
                        has_answered = True
                await asyncio.sleep(_FOLLOW_S)
            await self._settle(lease, notice)

    async def _settle(self, lease: Lease, notice: Notice) -> None:
        """See who is the primary now, before anybody is served; and do the rest, if it is ours.

        An old primary that has been told to take no writes serves nobody yet, however often it
        takes to find out what is left to do: the nodes, or where proxies agree, may be slow.
        """
        until = self._site.clock() + SETTLE_S
        while True:
            with contextlib.suppress(TimeoutError):
                await self._site.until_asked_again(notice.old, notice.successor)
            if self._site.clock() >= self._take_up_at:
                with contextlib.suppress(CoordinatorUnavailable):
                    if _is_left_behind(await lease.read()):
                        await self._take_up(lease, notice.successor)
            if not self._site.is_forbidden or self._site.clock() >= until:
                return
            await asyncio.sleep(_FOLLOW_S)

    def _is_drained(self, node: str) -> bool:
        return self._hands.count_servers(self._site.cluster, node) == 0

    # --- somebody has stopped in the middle ----------------------------------------------------

    async def _take_up(self, lease: Lease, node: str) -> None:
        """See to what a holder has left behind that had begun with a node, and is gone."""
        site = self._site
        if (primary := site.view.primary_node) is None or primary.state != "up":
            return  # whoever decides to promote goes on with it
        if (grant := await lease.take(node)) is None:
            return
        try:
            up = [each.name for each in site.view.nodes if each.state == "up"]
            await site.until_asked_again(*up)
            is_done = grant.node == node and await self._do_the_rest(lease, grant)
        except (TimeoutError, ClientError) as failed:
            _log.info("cluster %s: %s is not done: %s", site.cluster, node, failed)
            is_done = False
        except BaseException:
            grant.drop()
            raise
        if not is_done:
            self._take_up_at = site.clock() + _AGAIN_S
            await grant.abandon(began=True)

    async def _do_the_rest(self, lease: Lease, grant: Grant) -> bool:
        """With the lease, and everybody asked anew. Result: whether nothing is left to do.

        Raises ClientError.
        """
        site, view = self._site, self._site.view
        primary, node = view.primary_node, view.node(grant.node)
        if primary is None or primary.state != "up":
            return False
        if primary.name == node.name:
            site.note("promotion", node.name, f"{node.name} was promoted by a proxy that is gone")
            self._promotions.take_over(node)
            site.spawn(grant.finish(site.terms.rules.min_interval_s))
            return True
        if primary.read_only and node.in_recovery:
            await self._handover.go_on(primary, node, lease, grant)
            return True
        if _follows(node, primary):
            site.note("promotion", node.name, f"{node.name} was to be promoted, and was not told")
            if not await self._lets_go_on(primary):
                return False
            await grant.abandon(began=False)
            return True
        return False

    async def _lets_go_on(self, primary: NodeView) -> bool:
        """Have a primary that was to hand over be one as before. Result: whether it will."""
        try:
            async with self._site.connection(primary) as connection:
                await orders.allow_writes_for_sure(connection)
        except (*FAILURES, TimeoutError) as failed:
            _log.warning("%s may be told to take no writes: %s", primary.name, told(failed))
            return False
        return True


class _Followed:
    """A notice of somebody else's, looked at again and again."""

    def __init__(self, lease: Lease, notice: Notice, clock: Callable[[], float]) -> None:
        self._lease = lease
        self._number = notice.number
        self._clock = clock
        self._heard_at = clock()
        self.is_holding = notice.is_holding

    async def is_over(self) -> bool:
        """Whether it stands no more."""
        try:
            told = (await self._lease.read()).notice
        except CoordinatorUnavailable:
            return self._clock() - self._heard_at >= _SILENCE_S
        self._heard_at = self._clock()
        if told is None or told.number != self._number:
            return True
        self.is_holding = told.is_holding
        return False


def _is_left_behind(record: Record) -> bool:
    """Whether somebody had begun with a node, and nobody is at it."""
    return not record.is_held and record.node is not None


def _follows(node: NodeView, primary: NodeView) -> bool:
    """Whether a node is a replica as any, which was not told to be anything else."""
    return bool(node.in_recovery and node.streaming and node.timeline == primary.timeline)
