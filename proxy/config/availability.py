"""What the contract has and this version has not: refused, or accepted with a warning.

Refused is what would be unsafe or useless to ignore: a way to log in, a promotion. Accepted is what
leaves the program correct without it. Each line goes when the thing arrives.
"""

from collections.abc import Iterator
from importlib.util import find_spec

from proxy.config.contradictions import Contradiction
from proxy.config.model import Config
from proxy.config.policy import find_database
from proxy.config.section import KeyPath
from proxy.config.topology import Cluster

# Method -> what it is done with; an extra of the same name has it.
_MODULES = {"ldap": "ldap", "pam": "pam", "oauth": "jwt"}
_WITHOUT_EFFECT = (
    "without effect in this version: a node's weight, zone and lag decide nothing yet."
)


def missing_part(method: str) -> str | None:
    """Say which optional part a way to log in needs that is not installed, or None."""
    needed = _MODULES.get(method)
    if needed is None or find_spec(needed) is not None:
        return None
    return f"{method} needs a part that is not installed; pip install 'pgweir[{method}]'"


def find_unavailable(config: Config) -> Iterator[Contradiction]:
    """Values that cannot be obeyed, and with which the program does not start."""
    auth = config.auth
    missing = missing_part(auth.method)
    if missing is not None:
        yield Contradiction(("auth", "method"), missing)


def find_warnings(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Values that are accepted and have no effect yet, with a sentence each."""
    if config.workers != 1:
        yield ("workers",), "this version always runs one process."
    auth = config.auth
    is_open = auth.method in ("any", "trust") or auth.is_judged_elsewhere
    if not (auth.users or is_open or config.has_query):
        yield ("auth", "users"), "nobody can log in, because no user is listed."
    for name, cluster in config.clusters.items():
        yield from _find_cluster_warnings(config, name, cluster)
    for name, database in config.databases.items():
        if database.read_write_split:
            yield (
                ("databases", name, "read_write_split"),
                "without effect in this version: statements go to replicas only by a route.",
            )
    for index, route in enumerate(config.routes):
        if route.match.is_by_statement:
            yield (
                ("routes", index, "match"),
                "this version does not look at statements, so this route matches nothing.",
            )


def _find_cluster_warnings(
    config: Config, name: str, cluster: Cluster
) -> Iterator[tuple[KeyPath, str]]:
    is_named = cluster.monitor.user is not None or cluster.server.user is not None
    if not is_named and cluster.serve_from == "primary":
        yield (
            ("clusters", name, "monitor", "user"),
            "no user to probe the nodes as is given here or under server, so they are probed "
            "as postgres.",
        )
    for key in ("max_lag", "max_lag_bytes", "balance"):
        if key in cluster.replicas.model_fields_set:
            yield ("clusters", name, "replicas", key), _WITHOUT_EFFECT
    for index, node in enumerate(cluster.nodes):
        for key in ("weight", "zone"):
            if key in node.model_fields_set:
                yield ("clusters", name, "nodes", index, key), _WITHOUT_EFFECT
    if cluster.consistency != "none" and _uses_replicas(config, name):
        yield (
            ("clusters", name, "consistency"),
            f"{cluster.consistency} is not enforced in this version, so what is routed to "
            "replicas may not see the newest writes.",
        )


def _uses_replicas(config: Config, name: str) -> bool:
    """Whether anything of this cluster is sent, or asked to be sent, to replicas."""
    if any(each.cluster == name and each.read_write_split for each in config.databases.values()):
        return True
    return any(
        route.to != "primary"
        and not route.match.is_by_statement
        and name in _clusters_of(config, route.match.database)
        for route in config.routes
    )


def _clusters_of(config: Config, database: str | None) -> set[str]:
    """The clusters a route for this database is about; for None, all that have a database."""
    if database is None:
        return {each.cluster for each in config.databases.values()}
    entry = find_database(config.databases, database)
    return set() if entry is None else {entry.cluster}
