"""Making one node the primary: the order itself, and what is said, counted and run when it is done.

Used when a primary is dead and when it hands over; why and when is decided elsewhere.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from proxy.cluster import NodeView
from proxy.failover import orders
from proxy.failover.decision import received
from proxy.failover.events import Kind
from proxy.failover.followers import Followers
from proxy.failover.hooks import run_hook
from proxy.failover.lease import Grant
from proxy.failover.site import FAILURES, Site, told

_PROMOTE_S = 60.0
_LOST = "the lease to promote was lost"

Result = Literal["promoted", "switched_over"]


class PromotionFailed(Exception):  # noqa: N818 -- a fact about a node, not an error of ours
    """A node was not promoted, or not for sure. Says why.

    was_told: it may have got the order, and may still carry it out.
    """

    def __init__(self, why: str, *, was_told: bool) -> None:
        super().__init__(why)
        self.was_told = was_told


class Promotions:
    """Those of one cluster."""

    def __init__(self, site: Site, followers: Followers) -> None:
        self._site = site
        self._followers = followers
        # By result: promoted, switched_over, failed, dry_run.
        self.counts: Counter[str] = Counter()
        self.last_duration_s: float | None = None
        # The node that was the primary before the one of now.
        self.before: str | None = None

    async def promote(self, node: NodeView, timeline: int, grant: Grant) -> int:
        """Promote a node until the monitor sees it as the primary, and begin to lead the others.

        timeline: the one it leaves. Result: its own. Raises PromotionFailed.
        """
        was_told = False
        try:
            async with self._site.connection(node) as connection:
                await orders.allow_writes(connection)
                if not grant.is_valid:
                    raise orders.OrderFailed(_LOST)
                try:
                    await orders.promote(connection)
                except FAILURES as refused:
                    was_told = not orders.was_refused(refused)
                    raise
                was_told = True
                promoted = await orders.until_promoted(connection, timeline, _PROMOTE_S)
            if not grant.is_valid:
                # Whoever has it now does the rest, and may have gone on from there.
                raise orders.OrderFailed(f"{_LOST} meanwhile: the rest is left to another proxy")
            self._lead_others(node, promoted)
            await self._site.until_seen(node.name, lambda _: self._site.view.primary == node.name)
        except (*FAILURES, TimeoutError) as failed:
            raise PromotionFailed(told(failed), was_told=was_told) from None
        return promoted

    def _lead_others(self, node: NodeView, timeline: int) -> None:
        for other in self._site.view.nodes:
            if other.name != node.name and other.in_recovery and other.state == "up":
                self._followers.lead(other, node, timeline)

    def take_over(self, node: NodeView) -> None:
        """A node has been promoted by somebody who is gone: do what is left of it."""
        began = self._site.clock()
        timeline = node.timeline or 0
        self._lead_others(node, timeline)
        known = {each.name: each for each in self._site.view.nodes if each.name != node.name}
        old = known.get(self.before or "")
        if old is None:
            self.counts["promoted"] += 1
            sentence = f"no command is run for {node.name}: who was primary before is not known"
            self._site.note("hook", node.name, sentence)
            return
        is_planned = old.state == "up" and old.in_recovery is False and bool(old.read_only)
        self.done(
            node,
            old,
            timeline=timeline,
            began=(None if is_planned else old.failing_since) or began,
            result="switched_over" if is_planned else "promoted",
            reason=f"{node.name} was promoted by a proxy that is gone",
        )

    def done(
        self,
        node: NodeView,
        old: NodeView,
        *,
        timeline: int,
        began: float,
        result: Result,
        reason: str,
    ) -> None:
        """Count it, say it, and run the operator's commands."""
        site = self._site
        now = site.clock()
        self.counts[result] += 1
        self.last_duration_s = now - began
        lost = _say_what_is_lost(node, old) if result == "promoted" else ""
        kind: Kind = "promotion" if result == "promoted" else "switchover"
        site.note(
            kind,
            node.name,
            f"{node.name} takes writes on timeline {timeline}, {now - began:.2f} s after"
            f" {old.name} {'failed' if kind == 'promotion' else 'was to be replaced'}{lost}",
            level=logging.WARNING,
        )
        facts = self._facts(node, old, timeline, kind, reason)
        site.spawn(self._run_hook("on_promote", site.terms.on_promote, node, facts))
        site.spawn(self._run_hook("on_demote", site.terms.on_demote, old, facts))

    def failed(self, sentence: str, node: str) -> None:
        """Count it, and say why."""
        self.counts["failed"] += 1
        self._site.note("promotion", node, sentence, level=logging.ERROR)

    async def _run_hook(
        self, name: str, command: tuple[str, ...], node: NodeView, facts: Mapping[str, str]
    ) -> None:
        """Task: a command of the operator's."""
        if not command:
            return
        facts = {**facts, "PGWEIR_EVENT": name}
        went_wrong = await run_hook(command, facts, self._site.terms.hook_timeout_s)
        if went_wrong is None:
            self._site.note("hook", node.name, f"{name} succeeded for {node.name}")
        else:
            sentence = f"{name} {went_wrong}"
            self._site.note("hook", node.name, sentence, level=logging.ERROR)

    def _facts(
        self, node: NodeView, old: NodeView, timeline: int, kind: Kind, reason: str
    ) -> dict[str, str]:
        """What a hook learns. The address of each is the one that others replicate from."""
        cluster = self._site.cluster
        facts = {"CLUSTER": cluster, "KIND": kind, "TIMELINE": str(timeline), "REASON": reason}
        for word, each in (("PRIMARY", node), ("OLD_PRIMARY", old)):
            host, port = each.address.replication
            facts |= {word: each.name, f"{word}_HOST": host, f"{word}_PORT": str(port)}
        return {f"PGWEIR_{key}": value for key, value in facts.items()}


def _say_what_is_lost(node: NodeView, old: NodeView) -> str:
    """The end of a sentence on a promotion. Of what came after the last probe nobody knows."""
    loss = max(0, (old.insert_lsn or 0) - received(node))
    if not old.synchronous.strip():
        return f"; replication was asynchronous: {loss} bytes of WAL are known to be lost"
    return f"; {loss} bytes of WAL are known to be lost" if loss else ""
