"""What the contract has and this version has not: refused, or accepted with a warning.

Refused is what would be unsafe or useless to ignore: a way to log in, a promotion. Accepted is what
leaves the program correct without it. Each line goes when the thing arrives.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from proxy.config.contradictions import Contradiction
from proxy.config.model import Config
from proxy.config.section import KeyPath
from proxy.config.topology import Cluster

# Method -> what it is done with; an extra of the same name has it.
_MODULES = {"ldap": "ldap", "pam": "pam", "oauth": "jwt"}


def missing_part(method: str) -> str | None:
    """Say which optional part a way to log in needs that is not installed, or None."""
    needed = _MODULES.get(method)
    if needed is None or find_spec(needed) is not None:
        return None
    return f"{method} needs a part that is not installed; pip install 'pgweir[{method}]'"


def _has_otel() -> bool:
    try:
        distribution("opentelemetry-exporter-otlp-proto-http")
    except PackageNotFoundError:
        return False
    return True


def find_unavailable(config: Config) -> Iterator[Contradiction]:
    """Values that cannot be obeyed, and with which the program does not start."""
    auth = config.auth
    missing = missing_part(auth.method)
    if missing is not None:
        yield Contradiction(("auth", "method"), missing)
    if config.redis is not None and find_spec("redis") is None:
        yield Contradiction(
            ("redis",), "needs a part that is not installed; pip install 'pgweir[redis]'"
        )
    if config.traces is not None and not _has_otel():
        yield Contradiction(
            ("traces",), "needs a part that is not installed; pip install 'pgweir[otel]'"
        )


def find_warnings(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Values that are accepted and have no effect yet, with a sentence each."""
    auth = config.auth
    is_open = auth.method in ("any", "trust") or auth.is_judged_elsewhere
    if not (auth.users or is_open or config.has_query):
        yield ("auth", "users"), "nobody can log in, because no user is listed."
    for name, cluster in config.clusters.items():
        yield from _find_cluster_warnings(name, cluster)
    for name, database in config.databases.items():
        mode = database.pool_mode or config.limits.pool_mode
        if database.read_write_split and mode == "session":
            yield (
                ("databases", name, "read_write_split"),
                "without effect with pool_mode: session, where a client keeps one server "
                "connection.",
            )


def _find_cluster_warnings(name: str, cluster: Cluster) -> Iterator[tuple[KeyPath, str]]:
    is_named = cluster.monitor.user is not None or cluster.server.user is not None
    if not is_named and cluster.serve_from == "primary":
        yield (
            ("clusters", name, "monitor", "user"),
            "no user to probe the nodes as is given here or under server, so they are probed "
            "as postgres.",
        )
