"""How many descriptors there are, and whether they suffice for the configured limits."""

import resource

from proxy.config import Config

# Listeners, epoll, log, probes, HTTP visitors, cancel requests.
_OWN = 200


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; it is there to be used. Result: it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def needed_descriptors(config: Config) -> int:
    """How many descriptors the limits ask for.

    Counted: every client allowed at once, those still logging in where they have a limit of their
    own, one full pool with its reserve in each database, and some of ours. Who has several users
    in a database needs more; how many of them come at a time no configuration says.
    """
    limits, listen = config.limits, config.listen
    pools = 0
    for database in config.databases.values():
        size = database.pool_size or limits.pool_size
        reserve = database.reserve_pool_size
        pools += size + (limits.reserve_pool_size if reserve is None else reserve)
    return listen.max_client_conn + listen.max_login_conn + pools + _OWN


def missing_descriptors(config: Config, limit: int) -> str | None:
    """Say what does not fit into this many descriptors, or None when all does."""
    needed = needed_descriptors(config)
    if needed <= limit:
        return None
    return (
        f"the limit of open files is {limit}, and listen.max_client_conn with one pool for each"
        f" database needs {needed}: raise it (ulimit -n, LimitNOFILE=) or lower max_client_conn"
    )
