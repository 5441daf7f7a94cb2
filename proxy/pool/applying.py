"""What a policy asks of the lines and pools it holds for. Pure: nothing here waits or dials."""

import math

from proxy.config import Policy
from proxy.relay import (
    RESETS_ALWAYS,
    RESETS_NEVER,
    RESETS_SMARTLY,
    SESSION_MODE,
    STATEMENT_MODE,
    TRANSACTION_MODE,
    Line,
    Pool,
)
from proxy.session.foresight import calls_pattern
from proxy.telemetry import ALWAYS_TOLD_S

RESETS = {"smart": RESETS_SMARTLY, "always": RESETS_ALWAYS, "never": RESETS_NEVER}
MODES = {"session": SESSION_MODE, "transaction": TRANSACTION_MODE, "statement": STATEMENT_MODE}


def apply_policy(line: Line, policy: Policy) -> None:
    """Give a line the limits that hold for it."""
    line.mode = MODES[policy.pool_mode]
    line.share_unnamed = policy.share_unnamed and line.mode != SESSION_MODE
    line.tracks_statements = line.mode != SESSION_MODE and policy.max_prepared_statements > 0
    line.max_statement_bytes = policy.max_statement_bytes
    line.max_client_statements = policy.max_client_statements
    line.slow_s = min(ALWAYS_TOLD_S, policy.log_min_duration or math.inf)
    line.tells_all = policy.audited
    line.tells_traced = policy.traced
    line.refuses_pins = policy.pins == "refuse"
    line.session_functions = calls_pattern(policy.session_functions)
    line.wait_timeout_s = policy.query_wait_timeout
    line.query_timeout_s = policy.query_timeout
    line.transaction_timeout_s = policy.transaction_timeout
    line.idle_transaction_timeout_s = policy.idle_transaction_timeout
    line.client_idle_timeout_s = policy.client_idle_timeout


def apply_to_pool(pool: Pool, policy: Policy) -> None:
    """Give a pool the limits that hold for it."""
    pool.size = policy.pool_size
    pool.max_prepared = policy.max_prepared_statements
    pool.reset = RESETS[policy.server_reset]
    pool.lifetime_s = policy.server_lifetime
    pool.check_query = policy.server_check_query.encode()
    pool.fresh_s = policy.server_check_delay if policy.server_check_query else math.inf


def login_of(policy: Policy) -> tuple[object, ...]:
    """What a server connection cannot change after its login."""
    return (
        policy.cluster,
        policy.dbname,
        policy.server_user,
        # One that is meant to change ends no connection that was opened with another.
        policy.server_password_source or str(policy.server_password),
        dict(policy.server_settings),
        policy.connect_query,
    )


def has_deadlines(policy: Policy) -> bool:
    """Whether what clients do is to be ended after a while."""
    return bool(
        policy.query_timeout
        or policy.transaction_timeout
        or policy.idle_transaction_timeout
        or policy.client_idle_timeout
    )


def is_overdue(pool: Pool, policy: Policy) -> bool:
    """Whether a client has waited long enough for a connection beyond `pool_size`."""
    if not (policy.reserve_pool_size and policy.reserve_pool_timeout and pool.wanted):
        return False
    return pool.longest_wait_s >= policy.reserve_pool_timeout


def may_use_reserve(pool: Pool, policy: Policy) -> bool:
    """Whether the pool is to open a connection of its reserve."""
    opened = len(pool.servers) + pool.connecting
    in_reserve = pool.size <= opened < pool.size + policy.reserve_pool_size
    return in_reserve and not pool.capped and is_overdue(pool, policy)


def tidy_pool(pool: Pool, policy: Policy, now_s: float) -> None:
    """Close idle connections: the old, those unused for long, and those beyond the pool's size."""
    for server in list(pool.idle):
        count = len(pool.servers)
        is_old = 0 < policy.server_lifetime < now_s - server.ages_from_s
        is_unused = 0 < policy.server_idle_timeout < now_s - server.idle_since_s
        if is_old or count > policy.pool_size or (is_unused and count > policy.min_pool_size):
            server.retire()
    # It has been made smaller: busy ones go as they become free.
    excess = len(pool.servers) - policy.pool_size - policy.reserve_pool_size
    pool.yields = max(pool.yields, excess)
