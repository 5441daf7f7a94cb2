"""The picture of a cluster: what was declared, what a probe saw, what follows from it.

Nothing here decides and nothing here does IO. Every value is frozen: the monitor publishes a new
`ClusterView` instead of editing the old one, so whoever holds one may read it at leisure.

Times are seconds on the monitor's own clock (monotonic, no meaning outside this process). WAL
positions (LSNs) are plain integers, bytes since the beginning of the WAL; `format_lsn` shows one
the way PostgreSQL does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

NodeState = Literal["up", "suspect", "down", "unknown"]
Role = Literal["primary", "replica"]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """One PostgreSQL instance as the operator declared it; never says which one is the primary.

    host: a DNS name, an IP address, or (starting with `/`) the folder of a Unix socket.
    weight: share of the reads among replicas, 0 takes none. roles: names that routes may ask for.
    priority: rank for promotion, 0 is never. upstream: where others replicate from, when that is
    another host and port.
    """

    name: str
    host: str
    port: int = 5432
    weight: int = 1
    zone: str | None = None
    roles: tuple[str, ...] = ()
    priority: int = 1
    upstream: tuple[str, int] | None = None

    @property
    def replication(self) -> tuple[str, int]:
        """Host and port that the other nodes replicate from."""
        return self.upstream or (self.host, self.port)


class Failure(Enum):
    """Why a probe came back without facts, as far as it makes a difference to the judgement."""

    NO_ANSWER = "no answer in time"
    UNREACHABLE = "nobody accepts connections there"
    NAME_UNKNOWN = "the host name does not resolve"
    BROKEN = "the connection broke"
    NOT_ACCEPTING = "the server is starting up or shutting down"
    LOGIN_REFUSED = "the server refuses the probe's login"
    FULL = "the server has no connection left for the probe"
    QUERY_REFUSED = "the server refuses the probe's query"

    @property
    def answers(self) -> bool:
        """Whether the node serves PostgreSQL clients, although it told us nothing about itself.

        A full node, or one whose `pg_hba.conf` does not know our probe, is not a dead node.
        """
        return self in _ANSWERS


_ANSWERS = frozenset({Failure.LOGIN_REFUSED, Failure.FULL, Failure.QUERY_REFUSED})


@dataclass(frozen=True, slots=True)
class Sample:
    """What one probe of one node saw.

    at: when the question was sent; positions are at least as new as that, which is what
        read-your-writes compares with the time of a commit.
    round_trip_s: seconds from the question to its answer, or to giving up.
    failure, reason: why there are no facts; None and empty when there are.
    in_recovery: True on a standby, False on a server that takes writes.
    timeline: the timeline written (primary) or received (standby); None when it cannot be seen.
    insert_lsn: end of the WAL on a primary. receive_lsn, replay_lsn: the same on a standby.
    fork_lsn: what a primary had replayed when it was promoted, which is where its timeline begins;
        None where it has been restarted since, or never was a standby.
    replay_age_s: age of the last transaction replayed, None when there was none. On an idle
        system it grows for ever and says nothing about lag.
    streaming: whether a WAL receiver is connected to its upstream; None on a primary.
    receiver_silent_s: seconds since the WAL receiver heard from its upstream, None if unknown.
    read_only: `default_transaction_read_only` as the probe's session has it.
    max_connections: its setting. reserved_connections: those of them kept from ordinary users.
    receiver_timeout_s: `wal_receiver_timeout` of a standby; it asks its upstream for a sign of life
        after half of it.
    standby_name: what a standby is called at its upstream, None while it has none.
    synchronous: `synchronous_standby_names` of a primary. standbys: those that stream from it, by
        name, with their `sync_state`.
    """

    at: float
    round_trip_s: float
    failure: Failure | None = None
    reason: str = ""
    in_recovery: bool | None = None
    timeline: int | None = None
    insert_lsn: int | None = None
    receive_lsn: int | None = None
    replay_lsn: int | None = None
    fork_lsn: int | None = None
    replay_age_s: float | None = None
    streaming: bool | None = None
    receiver_silent_s: float | None = None
    read_only: bool | None = None
    server_version_num: int | None = None
    system_identifier: int | None = None
    max_connections: int | None = None
    reserved_connections: int | None = None
    receiver_timeout_s: float | None = None
    standby_name: str | None = None
    synchronous: str = ""
    standbys: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the node told us about itself."""
        return self.failure is None

    @property
    def answered(self) -> bool:
        """Whether the node serves clients, told or not."""
        return self.failure is None or self.failure.answers


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as last judged. Facts of a node that stopped answering are the last known ones.

    state: `unknown` before the first probe ended; `suspect` after the first failures, `down`
        after enough of them.
    role: `primary` on at most one node of a view. A node that is not to be used at all (of
        another cluster, or a second one that claims to be primary) has none, whatever its state.
        A node that is down keeps the role it had.
    lag_bytes: WAL the primary has and this replica has not replayed, None when unknown.
    lag_s: upper bound of the age of what this replica shows, seconds, None when unknown.
    stale: the replica is cut off from the primary's WAL (no receiver, or another timeline):
        its lag, whatever it says, will only grow.
    diverged: the replica has replayed WAL that the primary's timeline does not have: it cannot
        follow, whoever leads it there.
    slow: it answers, but late. Reported, never a reason to replace it.
    since: when state or role last changed.
    sampled_at: when the last question that was answered was sent.
    caught_up_at: when this replica was last seen streaming with everything received replayed.
    failing_since: when the first of the probes that failed in a row was sent, None when the last
        one did not. failure: what the last one failed with.
    streamed_at, streamed_timeline: when this replica was last seen streaming, and which timeline.
        Without a receiver its own word for the timeline may be a checkpoint old.
    fork_lsn: as in `Sample`, and remembered when the primary is restarted.
    standby_name, receiver_timeout_s, synchronous, standbys: as in `Sample`.
    """

    address: NodeAddress
    state: NodeState = "unknown"
    role: Role | None = None
    lag_bytes: int | None = None
    lag_s: float | None = None
    timeline: int | None = None
    replay_lsn: int | None = None
    since: float = 0.0
    reason: str = "not probed yet"
    stale: bool = False
    diverged: bool = False
    slow: bool = False
    read_only: bool = False
    in_recovery: bool | None = None
    insert_lsn: int | None = None
    receive_lsn: int | None = None
    fork_lsn: int | None = None
    streaming: bool | None = None
    receiver_silent_s: float | None = None
    server_version_num: int | None = None
    system_identifier: int | None = None
    max_connections: int | None = None
    reserved_connections: int | None = None
    round_trip_s: float | None = None
    sampled_at: float | None = None
    caught_up_at: float | None = None
    failing_since: float | None = None
    failure: Failure | None = None
    streamed_at: float | None = None
    streamed_timeline: int | None = None
    standby_name: str | None = None
    receiver_timeout_s: float | None = None
    synchronous: str = ""
    standbys: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name the operator gave it."""
        return self.address.name

    @property
    def common_connections(self) -> int | None:
        """Connections it grants ordinary users, None when unknown."""
        if self.max_connections is None:
            return None
        return self.max_connections - (self.reserved_connections or 0)

    @property
    def lsn(self) -> int | None:
        """How far its data goes: the end of the WAL on a primary, what is replayed on a standby."""
        return self.replay_lsn if self.in_recovery else self.insert_lsn


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster as last judged.

    nodes: in the order declared. primary: a node's name, or None while nobody may be written to.
    reason: one sentence why the primary is who it is, or why there is none.
    since: when the primary, or its absence, began.
    system_identifier: the cluster's identity, None until a node has told it; `identity_settled`
        once more than half of the declared nodes have told the same.
    leader: the node that whoever promotes here says is the primary, None when nobody says so.
    """

    name: str
    nodes: tuple[NodeView, ...]
    primary: str | None = None
    reason: str = "no node has been probed yet"
    since: float = 0.0
    system_identifier: int | None = None
    identity_settled: bool = False
    leader: str | None = None

    def node(self, name: str) -> NodeView:
        """The node of that name. Raises KeyError when the cluster has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def primary_node(self) -> NodeView | None:
        """The primary, up or suspect, or None."""
        return None if self.primary is None else self.node(self.primary)

    @property
    def replicas(self) -> tuple[NodeView, ...]:
        """Every known replica, healthy or not, in the order declared."""
        return tuple(node for node in self.nodes if node.role == "replica")


def first_view(cluster_name: str, addresses: Iterable[NodeAddress], now: float) -> ClusterView:
    """The picture before any probe: every node unknown, no primary.

    Raises ValueError when two nodes share a name, because everything else goes by name.
    """
    nodes = tuple(NodeView(address, since=now) for address in addresses)
    names = [node.name for node in nodes]
    if len(set(names)) != len(names):
        raise ValueError(f"cluster {cluster_name}: node names must differ, got {', '.join(names)}")
    return ClusterView(cluster_name, nodes, since=now)


def format_lsn(lsn: int) -> str:
    """A WAL position the way PostgreSQL writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
