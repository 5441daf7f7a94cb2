"""Which node is the primary? Each says so itself, by not being in recovery; this settles quarrels.

Pure; called by `judge` with nodes whose state and facts are already updated. Timelines decide: a
promotion starts a new, higher one, so whoever is on a lower timeline was left behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.cluster.view import NodeView


@dataclass(frozen=True, slots=True)
class Choice:
    """The primary, or None, with one sentence why; and a sentence for every claim not believed."""

    primary: str | None
    reason: str
    kept_out: dict[str, str] = field(default_factory=dict)


def choose_primary(
    nodes: Sequence[NodeView], *, last_primary: str | None, alone: bool, leader: str | None = None
) -> Choice:
    """Settle which node is the primary.

    nodes: without those of another cluster. last_primary: the one published until now.
    alone: the cluster was declared with a single node, which is then presumed to be the primary
    when it answers but tells nothing. leader: who is said to be the primary by those who promote;
    it counts only where timelines do not decide.

    A suspect node keeps its claim: it may only be slow, and its clients should wait rather than
    be refused. A node that is down has none. Reasons name nodes and timelines, never counts or
    times, so that they change only when the situation does.
    """
    claims = [node for node in nodes if _claims(node)]
    if not claims:
        return _nobody_claims(nodes, last_primary, alone)
    known = [claim.timeline for claim in claims if claim.timeline is not None]
    newest = max(known, default=None)
    # A claim whose timeline cannot be seen might be the newest: it counts among the winners.
    winners = [claim for claim in claims if claim.timeline in (newest, None)]
    losers = [claim for claim in claims if claim not in winners]
    chosen = next((claim for claim in winners if claim.name == leader), None)
    if len(winners) > 1 and chosen is not None:
        kept = f"claims to be primary, but {leader} is the leader: kept out"
        others = {claim.name: kept for claim in claims if claim is not chosen}
        return Choice(leader, f"{leader} is the leader of those that claim to be primary", others)
    if len(winners) > 1:
        return _split(claims, winners)
    winner = winners[0]
    ahead = [node for node in nodes if _is_ahead(node, winner)]
    if ahead:
        reason = (
            f"{winner.name} claims to be primary on timeline {winner.timeline}, but"
            f" {ahead[0].name} was last seen on timeline {ahead[0].timeline}: kept out,"
            " writing there would fork the data"
        )
        return Choice(None, reason, {claim.name: reason for claim in claims})
    kept_out = {
        loser.name: f"claims to be primary on timeline {loser.timeline}, but {winner.name} is"
        f" primary on timeline {winner.timeline}: kept out"
        for loser in losers
    }
    reason = f"{winner.name} is not in recovery, on timeline {winner.timeline or 'unknown'}"
    if losers:
        reason += ", the highest of those that claim to be primary"
    return Choice(winner.name, reason, kept_out)


def _claims(node: NodeView) -> bool:
    return node.in_recovery is False and node.state in ("up", "suspect")


def _is_ahead(node: NodeView, claimant: NodeView) -> bool:
    if node.timeline is None or claimant.timeline is None:
        return False
    return node.timeline > claimant.timeline


def _split(claims: Sequence[NodeView], winners: Sequence[NodeView]) -> Choice:
    names = " and ".join(node.name for node in winners)
    unseen = [node.name for node in winners if node.timeline is None]
    where = (
        f"and the timeline of {unseen[0]} cannot be seen"
        if unseen
        else f"on the same timeline {winners[0].timeline}"
    )
    reason = f"{names} claim to be primary {where}: nobody is written to until one of them is gone"
    return Choice(None, reason, {claim.name: reason for claim in claims})


def _nobody_claims(nodes: Sequence[NodeView], last_primary: str | None, alone: bool) -> Choice:
    if alone and len(nodes) == 1 and nodes[0].in_recovery is None:
        node = nodes[0]
        if node.state == "up" or (node.state == "suspect" and node.name == last_primary):
            return Choice(
                node.name,
                f"{node.name} is the only node and answers, but not to the probe:"
                " presumed to be the primary",
            )
    if not nodes:
        return Choice(None, "no node of this cluster is left")
    shapes = ", ".join(f"{node.name} {_shape(node)}" for node in nodes)
    return Choice(None, f"no node says it is the primary: {shapes}")


def _shape(node: NodeView) -> str:
    if node.state == "unknown":
        return "has not answered yet"
    if node.state != "up":
        was = " (the last primary)" if node.role == "primary" else ""
        return f"is {node.state}{was}"
    return "is in recovery" if node.in_recovery else "does not tell its role"
