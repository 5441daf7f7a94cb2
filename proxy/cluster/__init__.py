"""Which nodes exist, and in what shape? Probes and the judgement drawn from them.

Five nouns, and then any file here can be read. A `NodeAddress` is a PostgreSQL instance as the
operator declared it. A `Probe` asks one node one question and comes back with a `Sample`. `judge`
(pure) turns the samples of all nodes into one frozen picture, a `ClusterView`. The `Monitor` runs
the probes, keeps the newest picture and publishes it at every change. Which node is the primary is
discovered here and declared nowhere.
"""

from proxy.cluster.changes import Change, changes_between
from proxy.cluster.diagnosis import diagnose
from proxy.cluster.dialling import APPLICATION_NAME, DIALLING_FAILURES, dial
from proxy.cluster.judge import Rules, judge
from proxy.cluster.monitor import Monitor
from proxy.cluster.probe import Probe, ProbeLogin
from proxy.cluster.serving import ServeFrom, cast_nodes
from proxy.cluster.view import (
    ClusterView,
    Failure,
    NodeAddress,
    NodeState,
    NodeView,
    Role,
    Sample,
    first_view,
    format_lsn,
)

__all__ = [
    "APPLICATION_NAME",
    "DIALLING_FAILURES",
    "Change",
    "ClusterView",
    "Failure",
    "Monitor",
    "NodeAddress",
    "NodeState",
    "NodeView",
    "Probe",
    "ProbeLogin",
    "Role",
    "Rules",
    "Sample",
    "ServeFrom",
    "cast_nodes",
    "changes_between",
    "diagnose",
    "dial",
    "first_view",
    "format_lsn",
    "judge",
]
