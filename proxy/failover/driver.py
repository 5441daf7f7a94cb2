"""Stands between the monitor of one cluster and those who use its picture, and acts on it.

The monitor says what is; `decide` says what is to be done; this does it. While roles are being
changed nobody is served by a primary: what waits goes on waiting (`_held`). It is told of every
new picture (`see`) and has one task (`run`).

The way of a promotion: hold; cut every connection to the old primary, so that nothing is
acknowledged there any more; promote; wait until the new primary takes writes on a higher timeline
and the monitor has seen it; release; lead the other replicas to it. Everything up to the first
command may be called off; from then on it is finished, or reported.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from proxy.cluster import ClusterView, Monitor, NodeView, ProbeLogin
from proxy.errors import ClientError
from proxy.failover.bystander import Bystander
from proxy.failover.decision import Decision, choose_successor, decide, decide_by_order
from proxy.failover.events import EventLog
from proxy.failover.followers import Followers
from proxy.failover.handover import Handover
from proxy.failover.lease import CoordinatorUnavailable, Grant, Lease
from proxy.failover.patroni import listen_to_patroni
from proxy.failover.promotion import PromotionFailed, Promotions
from proxy.failover.siblings import SiblingsLease
from proxy.failover.site import Site
from proxy.failover.terms import Hands, Terms

_log = logging.getLogger("pgweir.failover")

_LOOK_AGAIN_S = 0.05
_REST_S = 5.0
# While the primary is in trouble, replicas are asked this often what they know of it.
_ASK_REPLICAS_S = 0.2
_LEASE_AGAIN_S = 0.5


class Failover:
    """One cluster's. `watch` gives it its monitor; then `run` it until cancelled.

    clock: as the monitor's.
    """

    def __init__(
        self,
        cluster: str,
        terms: Terms,
        login: ProbeLogin,
        hands: Hands,
        *,
        lease: Lease,
        events: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self._hands = hands
        self._lease = lease
        self._site = Site(cluster, terms, login, events, clock)
        self._changing_roles = asyncio.Lock()
        self._followers = Followers(self._site, self._changing_roles)
        self._promotions = Promotions(self._site, self._followers)
        self._handover = Handover(
            self._site, hands, self._followers, self._promotions, self._holding
        )
        self._bystander = Bystander(
            self._site,
            hands,
            lease=lambda: self._lease,
            promotions=self._promotions,
            handover=self._handover,
            changing_roles=self._changing_roles,
            holding=self._holding,
        )
        self._held: str | None = None
        self._said: tuple[str, str] | None = None
        self._primary: str | None = None
        self._last_promotion_at: float | None = None
        self._ordered: set[asyncio.Task[str]] = set()
        self._lease_again_at = 0.0
        self._lease_refusal = ""

    def watch(self, monitor: Monitor) -> None:
        """Act on this monitor's picture."""
        self._site.monitor = monitor

    def adopt(self, terms: Terms, login: ProbeLogin, lease: Lease) -> None:
        """The configuration has changed."""
        self._site.terms, self._site.login, self._lease = terms, login, lease
        self._site.news.set()

    def hear(self, told: Mapping[str, Any]) -> object:
        """What another process of this proxy says of the cluster. Result: what it is answered."""
        return self._lease.hear(told) if isinstance(self._lease, SiblingsLease) else None

    @property
    def counts(self) -> Counter[str]:
        """By result: promoted, switched_over, failed, dry_run."""
        return self._promotions.counts

    @property
    def last_duration_s(self) -> float | None:
        """How long the last promotion took, from the failure on."""
        return self._promotions.last_duration_s

    @property
    def split_brain(self) -> int:
        """How many nodes take writes that must not."""
        return self._followers.split_brain

    # --- what the monitor sees -----------------------------------------------------------------

    def see(self, view: ClusterView) -> None:
        """A new picture: pass it on, without the primary while roles are being changed."""
        self._note_primary(view)
        self._followers.note_split(view)
        self._pass_on(view)
        self._site.news.set()

    def _pass_on(self, view: ClusterView) -> None:
        if self._held is not None:
            view = replace(view, primary=None, reason=self._held)
        self._hands.serve(view)

    def _note_primary(self, view: ClusterView) -> None:
        if view.primary is None or view.primary == self._primary:
            return
        before, self._primary = self._primary, view.primary
        self._promotions.before = before
        self._site.note("primary", view.primary, f"{view.primary} is the primary: {view.reason}")
        if before is not None:
            # By whomever: the next one is not before min_interval.
            self._last_promotion_at = self._site.clock()
            # Whatever still runs there must not be acknowledged beside the new primary.
            self._hands.cut(self.cluster, before, f"{view.primary} is the primary now")

    # --- the task ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide and act until cancelled; leaves no task behind."""
        loop = asyncio.get_running_loop()
        beside = [
            loop.create_task(listen_to_patroni(self._site)),
            loop.create_task(self._bystander.attend()),
        ]
        try:
            while True:
                try:
                    await self._turn()
                except Exception:  # noqa: BLE001 -- top of a task: a bug must not end the watch
                    _log.exception("failover of cluster %s failed", self.cluster)
                    await asyncio.sleep(1.0)
        finally:
            left = [*beside, *self._ordered]
            for task in left:
                task.cancel()
            await asyncio.wait(left)
            await self._site.close()

    async def _turn(self) -> None:
        self._site.news.clear()
        view = self._site.view
        self._followers.fence(view)
        if not self._site.terms.promotes or self._changing_roles.locked():
            await self._site.until_news(_REST_S)
            return
        decision = decide(view, self._site.clock(), self._site.terms.rules, self._last_promotion_at)
        if decision.verb == "promote" and not self._site.terms.dry_run:
            async with self._changing_roles:
                why_not = await self._replace(decision)
            if why_not is None:
                return
            decision = Decision("wait", why_not, lost=decision.lost)
        self._say(decision)
        if decision.verb == "rest":
            self._followers.gather_strays(view)
            await self._site.until_news(_REST_S)
        else:
            self._ask_replicas(view)
            await self._site.until_news(_LOOK_AGAIN_S)

    def _say(self, decision: Decision) -> None:
        """A decision is told when it is another than before."""
        said = (decision.verb, decision.reason)
        if said == self._said:
            return
        was, self._said = self._said, said
        if decision.verb == "rest":
            if was is not None and was[0] in ("wait", "refuse"):
                self._site.note("decision", decision.node, f"nothing to do: {decision.reason}")
            return
        would = self._site.terms.dry_run and decision.verb == "promote"
        if would:
            self.counts["dry_run"] += 1
        words = f"would promote {decision.node}" if would else _WORDS[decision.verb]
        self._site.note(
            "decision",
            decision.node or decision.lost,
            f"{words}: {decision.reason}" if would or not decision.node else decision.reason,
            level=logging.INFO if decision.verb == "wait" else logging.WARNING,
        )

    def _ask_replicas(self, view: ClusterView) -> None:
        """What the replicas know of a lost primary is wanted now, not at their next turn."""
        now = self._site.clock()
        for node in view.nodes:
            is_old = now - (node.sampled_at or 0.0) >= _ASK_REPLICAS_S
            if node.role == "replica" and node.state == "up" and is_old:
                self._site.poke(node.name)

    # --- a promotion ---------------------------------------------------------------------------

    async def _replace(self, decision: Decision, *, is_ordered: bool = False) -> str | None:
        """Let a replica take the place of the dead primary. Result: why it did not.

        is_ordered: an operator has named it.
        """
        assert decision.node is not None  # noqa: S101 -- a promotion
        if self._site.clock() < self._lease_again_at:
            return self._lease_refusal
        why_not: str | None = (
            f"{decision.lost} is gone, and another proxy promotes or has just promoted"
        )
        grant = None
        try:
            grant = await self._lease.take(decision.node)
            if grant is not None:
                why_not = await self._confirm(grant, decision, is_ordered=is_ordered)
        except CoordinatorUnavailable as failed:
            why_not = f"{decision.lost} is gone, but who may promote is unknown: {failed}"
            if grant is not None:
                grant.drop()
        except BaseException:
            if grant is not None:
                grant.drop()
            raise
        if grant is not None and why_not is None:
            self._say(decision)
            return await self._replace_under(grant, decision)
        self._lease_again_at, self._lease_refusal = (
            self._site.clock() + _LEASE_AGAIN_S,
            why_not or "",
        )
        return why_not

    async def _confirm(self, grant: Grant, decision: Decision, *, is_ordered: bool) -> str | None:
        """The lease is ours: is the decision still right, and ours to make? Else give it back."""
        if not self._lease.is_shared:
            return None
        # Who had it until now may have promoted already: everybody is asked once more.
        others = [node.name for node in self._site.view.nodes if node.state == "up"]
        try:
            await self._site.until_asked_again(*others)
        except TimeoutError:
            await grant.abandon(began=grant.is_inherited)
            return f"{decision.lost} is gone, but not every replica could be asked again"
        wanted = decision.node or ""
        if grant.node not in (wanted, decision.lost) and not is_ordered:
            # Somebody has begun, and was stopped in the middle: that one, or none.
            wanted = grant.node
        again = decide_by_order(self._site.view, self._site.clock(), self._site.terms.rules, wanted)
        if again.verb != "promote":
            await grant.abandon(began=grant.is_inherited)
            if wanted == decision.node:
                return again.reason
            return f"another proxy has begun to promote {wanted}: {again.reason}"
        if wanted != grant.node:
            await grant.aim_at(wanted)
        return None

    async def _replace_under(self, grant: Grant, decision: Decision) -> str | None:
        view = self._site.view
        node, lost = view.node(grant.node), view.node(decision.lost or "")
        began = lost.failing_since or self._site.clock()
        self._last_promotion_at = self._site.clock()
        try:
            async with self._holding(f"{node.name} is being promoted"):
                self._hands.cut(self.cluster, lost.name, f"{lost.name} is gone")
                timeline = await self._promotions.promote(node, lost.timeline or 0, grant)
        except PromotionFailed as failed:
            reason = f"promoting {node.name} failed: {failed}"
            self._promotions.failed(reason, node.name)
            # Where it may have been told, whoever takes the lease next goes on with the same node.
            await grant.abandon(began=failed.was_told or grant.is_inherited)
            return reason
        except BaseException:
            grant.drop()
            raise
        self._site.spawn(grant.finish(self._site.terms.rules.min_interval_s))
        self._promotions.done(
            node, lost, timeline=timeline, began=began, result="promoted", reason=decision.reason
        )
        return None

    # --- by order ------------------------------------------------------------------------------

    async def switch_over(self, name: str | None) -> str:
        """Make another node the primary, because somebody asks for it. Result: what was done.

        name: which one, None for the best. From a healthy primary: new statements wait, running
        transactions finish, the successor gets all WAL, and nobody sees an error. A dead one is
        replaced as by `run`, only at once. Raises ClientError, and then nothing has changed, or
        the log says what.
        """
        if not self._site.terms.promotes:
            raise ClientError(
                "55000",
                f"pgweir does not promote in cluster {self.cluster}",
                hint="Set failover.mode to promote, or ask who promotes there.",
            )
        if name is not None and name not in {node.name for node in self._site.view.nodes}:
            raise ClientError("42704", f"cluster {self.cluster} has no node {name}")
        if self._changing_roles.locked():
            raise ClientError("55006", f"roles of cluster {self.cluster} are being changed already")
        # Whoever asked may leave; half a switchover is none.
        order = asyncio.get_running_loop().create_task(self._obey(name))
        self._ordered.add(order)
        order.add_done_callback(self._ordered.discard)
        return await asyncio.shield(order)

    async def _obey(self, name: str | None) -> str:
        async with self._changing_roles:
            primary = self._site.view.primary_node
            if primary is not None and primary.state == "up":
                return await self._hand_over(primary, name)
            decision = decide_by_order(
                self._site.view, self._site.clock(), self._site.terms.rules, name
            )
            if decision.verb != "promote":
                raise ClientError("55000", decision.reason)
            if self._site.terms.dry_run:
                return f"would promote {decision.node}: {decision.reason}"
            why_not = await self._replace(decision, is_ordered=name is not None)
            if why_not is not None:
                raise ClientError("55000", why_not, hint="The proxy's log has the reason.")
            return f"{decision.node} is the primary of cluster {self.cluster}"

    async def _hand_over(self, old: NodeView, name: str | None) -> str:
        """From a healthy primary to a successor."""
        successor = choose_successor(self._site.view, name)
        if isinstance(successor, str):
            raise ClientError("55000", successor)
        if self._site.terms.dry_run:
            return f"would hand over from {old.name} to {successor.name}"
        done = await self._handover.hand_over(old, successor, self._lease)
        self._last_promotion_at = self._site.clock()
        return done

    @contextlib.asynccontextmanager
    async def _holding(self, why: str) -> AsyncIterator[None]:
        """For a block: nobody is served by a primary; who waits goes on waiting."""
        before, self._held = self._held, f"roles are being changed: {why}"
        self._pass_on(self._site.view)
        try:
            yield
        finally:
            # Who goes along with another may have to do the rest: then one block is in the other.
            self._held = before
            self._pass_on(self._site.view)


_WORDS = {"wait": "waiting", "refuse": "nobody is promoted", "promote": "promoting"}
