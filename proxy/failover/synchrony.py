"""What synchronous replication promises: is all that was acknowledged on a node we can see? Pure.

PostgreSQL answers a COMMIT only when the synchronous standbys have flushed it. So after the death
of the primary the answer depends on which of them are still there.

Source: PostgreSQL documentation, "synchronous_standby_names", and `pg_stat_replication.sync_state`:
`sync` is one of the chosen by FIRST, `quorum` one of those that ANY counts.
"""

import re
from collections.abc import Collection, Mapping

_ANY = re.compile(r"\s*ANY\s+([0-9]+)\s*\(", re.IGNORECASE)


def why_not_all_acknowledged(
    synchronous: str, standbys: Mapping[str, str], visible: Collection[str]
) -> str | None:
    """Say what may be missing on every visible standby, or None when nothing acknowledged can be.

    synchronous: `synchronous_standby_names` of the primary, as last seen; empty is asynchronous,
    which promises nothing. standbys: name -> sync_state, as last seen. visible: names of standbys
    that can be asked now.
    """
    if not synchronous.strip():
        return None
    chosen = [name for name, state in standbys.items() if state in ("sync", "quorum")]
    if not chosen:
        return (
            f"replication was synchronous ({synchronous}) and no synchronous standby was connected"
            " when the primary was last seen"
        )
    seen = [name for name in chosen if name in visible]
    counted = _ANY.match(synchronous)
    # FIRST: each of the chosen has everything. ANY n: any n of them have, so all but n - 1 must
    # be seen to be sure of one that has.
    enough = len(chosen) - int(counted[1]) + 1 if counted else 1
    if len(seen) >= max(enough, 1):
        return None
    missing = ", ".join(name for name in chosen if name not in visible)
    return f"what was acknowledged may be on {missing} only, which cannot be seen"


def is_synchronous(standbys: Mapping[str, str], name: str | None) -> bool:
    """Whether the primary waited for this standby when it was last seen."""
    return name is not None and standbys.get(name) in ("sync", "quorum")
