"""What shape is the cluster in? From the last picture and new samples to the next picture. Pure.

Called by the monitor after every probe; asks no clock and touches no socket. The order of the
story: how does each node do (`_look_at`), whose cluster is this (`settle_identity`), who is the
primary (`choose_primary`), and what does that make of the others (`_cast`).

Calling it again with the same samples changes nothing, so the monitor need not know which node's
sample is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from proxy.cluster.identity import settle_identity
from proxy.cluster.lag import (
    has_replayed_all,
    lag_in_bytes,
    lag_in_seconds,
    primary_position,
)
from proxy.cluster.primacy import Choice, choose_primary
from proxy.cluster.view import ClusterView, NodeState, NodeView, Role, Sample

# `sync_state` of those that a COMMIT waits for.
_CHOSEN = ("sync", "quorum")


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the judgement draws its lines.

    down_after: failed probes in a row until a node is down; before that it is suspect.
    up_after: answered probes in a row until a node that was down is up, so that one lucky probe
        of a struggling node does not bring it back.
    slow_s: an answer later than this is reported as slow; until it is twice as quick again.
    first_look_s: how long, before the first primary is known, a claim waits for nodes that were
        never heard of: the old primary that answers first must not be taken for the new one.
    """

    down_after: int = 3
    up_after: int = 2
    slow_s: float = 0.5
    first_look_s: float = 0.25

    @property
    def history(self) -> int:
        """How many samples of a node the judgement needs to see.

        Eight at least: the primary's position is interpolated between samples.
        """
        return max(8, self.down_after, self.up_after)


def judge(
    previous: ClusterView,
    samples: Mapping[str, Sequence[Sample]],
    now: float,
    rules: Rules,
) -> ClusterView:
    """Draw the next picture of the cluster.

    previous: the last one, or `first_view` to begin with; it says which nodes are declared.
    samples: by node name, oldest first, the newest `rules.history` or more; a node not yet
        heard of may be missing. now: same clock as the samples.
    """
    looked = [_look_at(node, samples.get(node.name, ()), now, rules) for node in previous.nodes]
    identifier, settled = settle_identity(
        [node.system_identifier for node in looked],
        previous.system_identifier,
        previous.identity_settled,
    )
    strangers = {node.name for node in looked if node.system_identifier not in (None, identifier)}
    ours = [node for node in looked if node.name not in strangers]
    choice = _first_look(previous, looked, now, rules) or choose_primary(
        ours, last_primary=previous.primary, alone=len(looked) == 1, leader=previous.leader
    )
    primary = next((node for node in ours if node.name == choice.primary), None)
    primary_samples = samples.get(primary.name, ()) if primary else ()
    nodes = tuple(
        _refuse(node, identifier)
        if node.name in strangers
        else _cast(node, choice, primary, primary_samples, samples.get(node.name, ()))
        for node in looked
    )
    return replace(
        previous,
        nodes=tuple(
            _stamp(before, after, now) for before, after in zip(previous.nodes, nodes, strict=True)
        ),
        primary=choice.primary,
        reason=choice.reason,
        since=previous.since if choice.primary == previous.primary else now,
        system_identifier=identifier,
        identity_settled=settled,
    )


def _look_at(node: NodeView, samples: Sequence[Sample], now: float, rules: Rules) -> NodeView:
    """Bring one node's state and facts up to date; roles come later."""
    if not samples:
        return node
    latest = samples[-1]
    run = len(list(takewhile(lambda s: s.answered == latest.answered, reversed(samples))))
    state, reason = _next_state(node.state, latest, run, rules)
    node = replace(
        node,
        state=state,
        reason=reason,
        failing_since=_failing_since(node, samples, run),
        failure=None if latest.answered else latest.failure,
    )
    told = next((sample for sample in reversed(samples) if sample.ok), None)
    if told is None:
        return node
    return replace(_learn(node, told, rules), standbys=_standbys(node, told, samples))


def _failing_since(node: NodeView, samples: Sequence[Sample], run: int) -> float | None:
    """When the present run of failed probes began; it may be longer than the samples kept."""
    if samples[-1].answered:
        return None
    return samples[-run].at if node.failing_since is None else node.failing_since


def _next_state(state: NodeState, latest: Sample, run: int, rules: Rules) -> tuple[NodeState, str]:
    """Up, suspect or down, with the sentence why. run: equal outcomes in a row, latest included."""
    if latest.answered:
        if state == "down" and run < rules.up_after:
            return "down", f"answers again, counts as up after {rules.up_after} good probes"
        if latest.ok:
            return "up", "answers"
        return "up", f"answers, but tells nothing: {latest.reason}"
    if state == "down" or run >= rules.down_after:
        return "down", f"{latest.reason} ({rules.down_after} or more failed probes in a row)"
    return "suspect", f"{latest.reason} (failed probe {run}, down at {rules.down_after})"


def _learn(node: NodeView, told: Sample, rules: Rules) -> NodeView:
    """Copy what the node told last. What it could not tell this time stays as it was known."""
    patience_s = rules.slow_s / 2 if node.slow else rules.slow_s
    caught_up = bool(told.in_recovery and told.streaming and has_replayed_all(told))
    identifier = told.system_identifier
    streams = bool(told.in_recovery and told.streaming and told.timeline is not None)
    return replace(
        node,
        in_recovery=told.in_recovery,
        timeline=node.timeline if told.timeline is None else told.timeline,
        insert_lsn=told.insert_lsn,
        receive_lsn=told.receive_lsn,
        replay_lsn=told.replay_lsn,
        fork_lsn=node.fork_lsn if _is_restarted(node, told) else told.fork_lsn,
        streaming=told.streaming,
        receiver_silent_s=told.receiver_silent_s,
        read_only=bool(told.read_only),
        server_version_num=told.server_version_num,
        system_identifier=node.system_identifier if identifier is None else identifier,
        max_connections=told.max_connections,
        reserved_connections=told.reserved_connections,
        round_trip_s=told.round_trip_s,
        slow=told.round_trip_s > patience_s,
        sampled_at=told.at,
        caught_up_at=told.at if caught_up else node.caught_up_at,
        streamed_at=told.at if streams else node.streamed_at,
        streamed_timeline=told.timeline if streams else node.streamed_timeline,
        standby_name=told.standby_name or node.standby_name,
        receiver_timeout_s=told.receiver_timeout_s,
        synchronous=told.synchronous,
    )


def _is_restarted(node: NodeView, told: Sample) -> bool:
    """Whether a primary has forgotten where its timeline begins, which we know."""
    return told.fork_lsn is None and not told.in_recovery and told.timeline == node.timeline


def _standbys(node: NodeView, told: Sample, samples: Sequence[Sample]) -> Mapping[str, str]:
    """The standbys of a primary, of all samples kept; once synchronous, it stays that here.

    When a primary dies its senders may be gone before the backend that answers the probe; and
    what was acknowledged a moment ago may be on a standby that has just left. Without any that is
    synchronous nothing is acknowledged, so then those before still count.
    """
    known: dict[str, str] = {}
    for sample in samples:
        if sample.ok and sample.synchronous == told.synchronous:
            for name, state in sample.standbys.items():
                if known.get(name) not in _CHOSEN:
                    known[name] = state
    if told.synchronous and not any(state in _CHOSEN for state in known.values()):
        return {**known, **node.standbys}
    return known


def _first_look(
    previous: ClusterView, looked: Sequence[NodeView], now: float, rules: Rules
) -> Choice | None:
    """Hold the first claim back for a moment while some node was never heard of."""
    unheard = any(node.state == "unknown" for node in looked)
    if not unheard or previous.primary is not None or now - previous.since >= rules.first_look_s:
        return None
    return Choice(None, "waiting for the first answer of every node")


def _refuse(node: NodeView, identifier: int | None) -> NodeView:
    """A node of another cluster: never used, whatever it says."""
    return replace(
        node,
        role=None,
        stale=False,
        diverged=False,
        lag_bytes=None,
        lag_s=None,
        reason=f"refused: system identifier {node.system_identifier} is another cluster's,"
        f" ours is {identifier}",
    )


def _cast(
    node: NodeView,
    choice: Choice,
    primary: NodeView | None,
    primary_samples: Sequence[Sample],
    samples: Sequence[Sample],
) -> NodeView:
    """Give a node its role, and a replica its lag."""
    if node.name in choice.kept_out:
        return _as(node, None, choice.kept_out[node.name])
    if node.name == choice.primary:
        return _as(node, "primary", _primary_reason(node, choice))
    if node.in_recovery:
        return _as_replica(node, primary, primary_samples, samples)
    # Down, the last primary stays visible as such until another one takes over.
    keeps_role = node.role == "primary" and node.state == "down" and choice.primary is None
    return _as(node, "primary" if keeps_role else None, node.reason)


def _as(node: NodeView, role: Role | None, reason: str) -> NodeView:
    return replace(
        node, role=role, reason=reason, stale=False, diverged=False, lag_bytes=None, lag_s=None
    )


def _primary_reason(node: NodeView, choice: Choice) -> str:
    if node.state != "up" or node.in_recovery is None:
        return f"{choice.reason}; {node.reason}"
    late = f", slow: answered after {node.round_trip_s:.2f} s" if node.slow else ""
    closed = ", but default_transaction_read_only is on" if node.read_only else ""
    return f"{choice.reason}{closed}{late}"


def _as_replica(
    node: NodeView,
    primary: NodeView | None,
    primary_samples: Sequence[Sample],
    samples: Sequence[Sample],
) -> NodeView:
    """A standby with its lag, measured at its last answer and kept while it does not answer."""
    told = next((sample for sample in reversed(samples) if sample.ok), None)
    if told is None:
        return replace(node, role="replica")
    if primary is None:
        # Nobody writes: the last measure against the last primary is the best there is.
        lag_bytes = node.lag_bytes
    else:
        written = primary_position(primary_samples, told.at, primary.insert_lsn)
        lag_bytes = lag_in_bytes(written, told.replay_lsn)
    diverged = primary is not None and _has_diverged(node, primary)
    cut_off = _cut_off(node, primary, diverged=diverged)
    reason = node.reason
    if node.state == "up" and told is samples[-1]:
        late = f", slow: answered after {told.round_trip_s:.2f} s" if node.slow else ""
        reason = (cut_off or "in recovery, streaming") + late
    return replace(
        node,
        role="replica",
        lag_bytes=lag_bytes,
        lag_s=lag_in_seconds(told, node.caught_up_at),
        stale=cut_off is not None,
        diverged=diverged,
        reason=reason,
    )


def _has_diverged(node: NodeView, primary: NodeView) -> bool:
    """Whether a replica is past the point where the primary's timeline left its own.

    What counts is the timeline that its receiver was last seen to get: its own word for it may be
    a checkpoint old.
    """
    if node.streamed_timeline is None or None in (primary.timeline, primary.fork_lsn):
        return False
    is_behind = node.streamed_timeline < (primary.timeline or 0)
    return is_behind and (node.replay_lsn or 0) > (primary.fork_lsn or 0)


def _cut_off(node: NodeView, primary: NodeView | None, *, diverged: bool) -> str | None:
    """Why this replica no longer gets the primary's WAL, or None when it does."""
    if diverged and primary is not None:
        return (
            f"has replayed what the primary {primary.name} never had: it cannot follow,"
            " and needs pg_rewind"
        )
    if node.streaming is False:
        return "in recovery, but its WAL receiver is gone"
    if primary is None or node.timeline is None or primary.timeline is None:
        return None
    if node.timeline == primary.timeline:
        return None
    return (
        f"follows timeline {node.timeline}, but the primary {primary.name} is on {primary.timeline}"
    )


def _stamp(before: NodeView, after: NodeView, now: float) -> NodeView:
    same = (before.state, before.role) == (after.state, after.role)
    return after if same else replace(after, since=now)
