"""Is a replica to be promoted, and which one? From a picture of the cluster to an action. Pure.

Called again and again while the primary is in trouble. Every answer has its sentence, also that
nothing is to be done: the sentence is the log line, the event, and what tests look at. Sentences
name nodes and limits, never counts or times, so that they change only when the situation does.

The order of the story: is anything wrong at all; is the primary really gone, and who says so
(`_doubt`); who may take its place, and has that one enough (`_choose`).

What speaks for the death of a primary is independent: our own probes, several in a row and for
`after_s`; and each replica, whose receiver has lost it. A replica that still hears from it speaks
against: then it is this proxy that is cut off. More than half of the observers (the replicas, and
this proxy) must agree. A replica that is connected but hears nothing agrees once it has asked for a
sign of life, which it does after half of its `wal_receiver_timeout`, and got none: so a primary
that hangs is told from one that has nothing to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.cluster import ClusterView, Failure, NodeView
from proxy.failover.synchrony import is_synchronous, why_not_all_acknowledged

Verb = Literal["rest", "wait", "refuse", "promote"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the decision draws its lines; see `failover` in the configuration.

    streamed_within_s: a replica must have been seen streaming this shortly before the primary
        failed. One that was cut off earlier may lack more than anybody knows.
    """

    after_s: float = 1.0
    starting_after_s: float = 10.0
    min_interval_s: float = 10.0
    max_loss_bytes: int = 1 << 20
    streamed_within_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why.

    verb: `rest` nothing is wrong; `wait` for what the reason says; `refuse` until somebody looks;
        `promote` the node. lost: the primary that is gone. loss_bytes: WAL that it is known to
        have written and the node has not received.
    """

    verb: Verb
    reason: str
    node: str | None = None
    lost: str | None = None
    loss_bytes: int = 0


def decide(
    view: ClusterView, now: float, rules: Rules, last_promotion_at: float | None = None
) -> Decision:
    """Say whether a replica is to be promoted now, and which.

    now, last_promotion_at: on the clock of the view.
    """
    primary = view.primary_node
    if primary is not None and primary.state == "up":
        return Decision("rest", f"{primary.name} is the primary")
    lost = lost_primary(view)
    if lost is None and any(node.state == "unknown" for node in view.nodes):
        return Decision("rest", "not every node has been heard of yet")
    if lost is None:
        return Decision("refuse", f"no primary to replace is known: {view.reason}")
    doubt = _doubt(view, lost, now, rules)
    if doubt is not None:
        return doubt
    if last_promotion_at is not None and now - last_promotion_at < rules.min_interval_s:
        return Decision(
            "wait",
            f"{lost.name} is gone, but the last promotion was less than min_interval"
            f" ({rules.min_interval_s:g} s) ago",
            lost=lost.name,
        )
    return _choose(view, lost, rules)


def decide_by_order(view: ClusterView, now: float, rules: Rules, name: str | None) -> Decision:
    """The same, now that an operator wants it: no interval, and the node named whatever it lacks.

    name: the node to promote, None for the best one. That the primary is gone must be certain all
    the same, and no order makes a primary of a node that cannot follow its timeline.
    """
    lost = lost_primary(view)
    if lost is None or name is None:
        return decide(view, now, rules)
    doubt = _doubt(view, lost, now, rules)
    if doubt is not None:
        return doubt
    node = view.node(name)
    reason = _why_not(node, lost, rules)
    if reason is not None:
        return Decision("refuse", f"{name} {reason}", lost=lost.name)
    loss_bytes = max(0, (lost.insert_lsn or 0) - received(node))
    return Decision(
        "promote", f"{lost.name} is gone, and {name} was named", name, lost.name, loss_bytes
    )


def choose_successor(view: ClusterView, name: str | None) -> NodeView | str:
    """Who takes over from a healthy primary, or why nobody can.

    name: the node that is wanted, None for the best one: by priority, then a synchronous one, then
    the one that has received most. What it still lacks it is given before.
    """
    primary = view.primary_node
    if primary is None:
        return view.reason
    reasons = {node.name: _why_no_successor(node, primary) for node in view.nodes}
    if name is not None:
        reason = reasons[name]
        return view.node(name) if reason is None else f"{name} {reason}"
    able = [node for node in view.nodes if reasons[node.name] is None and node.address.priority > 0]
    if not able:
        said = (f"{name} {reason or 'has priority 0'}" for name, reason in reasons.items())
        return f"nobody can take over: {'; '.join(said)}"
    return max(
        able,
        key=lambda node: (
            node.address.priority,
            is_synchronous(primary.standbys, node.standby_name),
            received(node),
        ),
    )


def _why_no_successor(node: NodeView, primary: NodeView) -> str | None:
    """Why a node cannot take over from a healthy primary, or None when it can."""
    faults = (
        (node.name == primary.name, "is the primary"),
        (node.state != "up", f"is {node.state}"),
        (node.role != "replica", "is no replica of this cluster"),
        (not node.streaming, "does not stream"),
        (node.timeline != primary.timeline, f"is not on timeline {primary.timeline}"),
    )
    return next((reason for is_so, reason in faults if is_so), None)


def lost_primary(view: ClusterView) -> NodeView | None:
    """The primary that answers no more, suspect or down, or None."""
    for node in view.nodes:
        if node.role == "primary" and node.state in ("suspect", "down"):
            return node
    return None


def _doubt(view: ClusterView, lost: NodeView, now: float, rules: Rules) -> Decision | None:
    """Why the primary does not count as dead, or None when it does."""
    claims = claimants(view, lost)
    if claims:
        names = " and ".join(node.name for node in claims)
        reason = f"{lost.name} is gone, but {names} also claims to be primary"
        return Decision("refuse", reason, lost=lost.name)
    doubt = _why_it_may_live(lost, now, rules) or _why_replicas_disagree(view, lost, rules)
    return None if doubt is None else Decision("wait", doubt, lost=lost.name)


def claimants(view: ClusterView, lost: NodeView | None) -> list[NodeView]:
    """The nodes that take writes, or may, besides the one that is gone."""
    return [
        node
        for node in view.nodes
        if node != lost and node.in_recovery is False and node.state in ("up", "suspect")
    ]


def _why_it_may_live(lost: NodeView, now: float, rules: Rules) -> str | None:
    """What our own probes say against its death."""
    if lost.failing_since is None:
        return f"{lost.name} answers again"
    if lost.state != "down":
        return f"{lost.name} is suspect: not enough probes have failed yet"
    is_starting = lost.failure is Failure.NOT_ACCEPTING
    patience_s = rules.starting_after_s if is_starting else rules.after_s
    if now - lost.failing_since >= patience_s:
        return None
    said = "says it is starting up or shutting down" if is_starting else "does not answer"
    return f"{lost.name} {said}: it is given {patience_s:g} s"


def _why_replicas_disagree(view: ClusterView, lost: NodeView, rules: Rules) -> str | None:
    """What the replicas say against its death: more than half of all observers must agree."""
    observers = [node for node in view.nodes if _observes(node, lost)]
    agreeing = 1
    silent = []
    for node in observers:
        if node.state != "up":
            silent.append(node.name)
        elif (node.sampled_at or 0.0) < (lost.failing_since or 0.0):
            return f"{node.name} has not been asked yet what became of {lost.name}"
        elif not has_lost_its_primary(node, rules):
            return (
                f"{node.name} still hears from {lost.name}: this proxy may be cut off,"
                " or it hangs and the replica has not asked it for a sign of life yet"
            )
        else:
            agreeing += 1
    if agreeing * 2 > len(observers) + 1:
        return None
    return f"too few nodes agree that {lost.name} is gone: {', '.join(silent)} cannot be asked"


def _observes(node: NodeView, lost: NodeView) -> bool:
    """Whether this node would know: a replica that streams from the primary itself, or did."""
    if node.name == lost.name or (node.role != "replica" and node.state == "up"):
        return False
    is_behind_another = (
        node.streaming
        and node.standby_name is not None
        and bool(lost.standbys)
        and node.standby_name not in lost.standbys
    )
    return not is_behind_another


def has_lost_its_primary(node: NodeView, rules: Rules) -> bool:
    """Whether a replica's receiver is gone, or has asked for a sign of life and got none.

    Source: src/backend/replication/walreceiver.c: it asks after half of `wal_receiver_timeout`.
    """
    if node.streaming is False:
        return True
    if not node.receiver_timeout_s or node.receiver_silent_s is None:
        return False
    return node.receiver_silent_s >= node.receiver_timeout_s / 2 + rules.after_s


def received(node: NodeView) -> int:
    """How far its WAL goes. A restarted receiver begins again below what is replayed already."""
    return max(node.receive_lsn or 0, node.replay_lsn or 0)


def _choose(view: ClusterView, lost: NodeView, rules: Rules) -> Decision:
    """The replica that has received most; it is never behind a synchronous one that can be seen.

    Among equals a synchronous one, then by priority, then as declared. Whoever has most is taken
    even before a synchronous standby that has less: what is acknowledged is on both, and a replica
    that is ahead of the new primary could not follow it.
    """
    refusals = {
        node.name: reason
        for node in view.nodes
        if node.name != lost.name and (reason := _why_not(node, lost, rules)) is not None
    }
    candidates = [node for node in view.nodes if node.name not in {*refusals, lost.name}]
    if not candidates:
        why = "; ".join(f"{name} {reason}" for name, reason in refusals.items())
        nobody = why or "there is no other node"
        return Decision("refuse", f"{lost.name} is gone and nobody can replace it: {nobody}")
    best = min(candidates, key=lambda node: _rank(node, lost))
    missing = _why_not_all_acknowledged(view, lost, best)
    if missing is not None:
        return Decision("refuse", f"{lost.name} is gone, but {missing}", lost=lost.name)
    loss_bytes = max(0, (lost.insert_lsn or 0) - received(best))
    # Where replication is synchronous nobody was told that the rest is there.
    if not lost.synchronous.strip() and loss_bytes > rules.max_loss_bytes:
        return Decision(
            "refuse",
            f"{lost.name} is gone, but {best.name}, which has most, lacks more of what it had"
            f" written than max_loss_bytes ({rules.max_loss_bytes})",
            lost=lost.name,
            loss_bytes=loss_bytes,
        )
    return Decision("promote", _why_this(best, lost, candidates), best.name, lost.name, loss_bytes)


def _why_not_all_acknowledged(view: ClusterView, lost: NodeView, best: NodeView) -> str | None:
    """What may be acknowledged and missing on the best candidate, or None when nothing is."""
    seen = {
        node.standby_name: received(node)
        for node in view.nodes
        if node.state == "up" and node.standby_name
    }
    unseen = why_not_all_acknowledged(lost.synchronous, lost.standbys, seen)
    if unseen is not None:
        return unseen
    # One that cannot be promoted may have more than all that can.
    ahead = [name for name, lsn in seen.items() if lsn > received(best)]
    if why_not_all_acknowledged(lost.synchronous, lost.standbys, seen.keys() - ahead) is None:
        return None
    names = ", ".join(name for name in ahead if is_synchronous(lost.standbys, name))
    return (
        f"what was acknowledged may be on {names} only, which cannot be promoted"
        f" and has more than {best.name}"
    )


def _rank(node: NodeView, lost: NodeView) -> tuple[int, bool, int]:
    synchronous = is_synchronous(lost.standbys, node.standby_name)
    return -received(node), not synchronous, -node.address.priority


def _why_not(node: NodeView, lost: NodeView, rules: Rules) -> str | None:
    """Why a node cannot take the primary's place, or None when it can."""
    cut_off_s = (lost.failing_since or 0.0) - (node.streamed_at or 0.0)
    faults = (
        (node.state != "up", f"is {node.state}"),
        (node.role != "replica", "is no replica of this cluster"),
        (node.address.priority == 0, "has priority 0"),
        (
            lost.timeline is None or node.streamed_timeline != lost.timeline,
            f"was not seen streaming timeline {lost.timeline}",
        ),
        (cut_off_s > rules.streamed_within_s, "had lost the primary before it failed"),
        (not has_lost_its_primary(node, rules), f"still hears from {lost.name}"),
    )
    return next((reason for is_so, reason in faults if is_so), None)


def _why_this(best: NodeView, lost: NodeView, candidates: Sequence[NodeView]) -> str:
    if len(candidates) == 1:
        which = "is the only one that can take its place"
    elif is_synchronous(lost.standbys, best.standby_name):
        which = "is a synchronous standby and none has received more"
    else:
        which = "has received as much as any"
    return f"{lost.name} is gone, as its replicas confirm; {best.name} {which}"
