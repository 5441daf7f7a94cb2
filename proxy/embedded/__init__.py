"""A PostgreSQL cluster of our own, for the demo and the tests.

Five nouns: `Binaries` say which PostgreSQL, an `Account` whom it runs as, a `Node` is one running
PostgreSQL, a `Cluster` is a primary with its streaming replicas, and the `Guardian` is a small
process beside us that removes everything should we die without doing so ourselves. The room knows
nothing of the proxy.

    async with Cluster(ClusterSpec(replicas=2)) as cluster:
        await cluster.primary.execute("CREATE TABLE t (id int)")

Every failure that an operator can cause or cure is an `EmbeddedError` whose text is one line.
"""

from proxy.embedded.account import Account, unprivileged_account
from proxy.embedded.binaries import Binaries, bundled, distribution
from proxy.embedded.cluster import Cluster, ClusterSpec
from proxy.embedded.failure import EmbeddedError, PortTaken
from proxy.embedded.node import Node, StopMode
from proxy.embedded.ports import free_port, is_port_free
from proxy.embedded.sample import Login, create_roles, grant_promotion, load_pgbench, load_sample
from proxy.embedded.settings import ServerTls

__all__ = [
    "Account",
    "Binaries",
    "Cluster",
    "ClusterSpec",
    "EmbeddedError",
    "Login",
    "Node",
    "PortTaken",
    "ServerTls",
    "StopMode",
    "bundled",
    "create_roles",
    "distribution",
    "free_port",
    "grant_promotion",
    "is_port_free",
    "load_pgbench",
    "load_sample",
    "unprivileged_account",
]
