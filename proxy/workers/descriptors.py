"""How many descriptors there are, and whether they suffice for the configured limits."""

import resource

from proxy.config import Config

# Listeners, epoll, log, probes, HTTP visitors, logins under way.
_OWN = 200


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; it is there to be used. Result: it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def missing_descriptors(config: Config, limit: int) -> str | None:
    """Say what does not fit into this many descriptors, or None when all does.

    Counted: every client allowed at once and one full pool in each database.
    """
    pools = sum(
        database.pool_size or config.limits.pool_size for database in config.databases.values()
    )
    needed = config.listen.max_client_conn + pools + _OWN
    if needed <= limit:
        return None
    return (
        f"the limit of open files is {limit}, and listen.max_client_conn with one pool for each"
        f" database needs {needed}: raise it (ulimit -n, LimitNOFILE=) or lower max_client_conn"
    )
