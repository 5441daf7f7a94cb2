"""What a probe asks a node, and how its answer becomes a `Sample`. No IO.

One statement that works on a primary and on a standby, so that a probe is one round trip. Each
function that fails on one of the two is behind a CASE on `pg_is_in_recovery()`; every name is
qualified, because the search path is the role's and not ours. For PostgreSQL 12 and newer, with
the rights of `pg_monitor`; with fewer, parts of the answer are null.

Source: PostgreSQL documentation, "System Administration Functions" (recovery information, backup
control), "System Information Functions" (control data), and "pg_stat_wal_receiver".
"""

import json
from collections.abc import Mapping
from typing import Any

from proxy.cluster.conninfo import parse_conninfo
from proxy.cluster.view import Sample

# The timeline of a primary is the one its current WAL file is named after: the control file
# changes only at the first checkpoint after a promotion. A standby's is what its receiver gets;
# without a receiver, what its control file remembers, which may be a checkpoint behind.
_QUESTION = """
SELECT n.in_recovery,
       CASE WHEN NOT n.in_recovery THEN
              ('x' || pg_catalog.substr(
                 pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)
              )::pg_catalog.bit(32)::pg_catalog.int8
            WHEN w.pid IS NOT NULL THEN w.received_tli
            ELSE {control_timeline}
       END AS timeline,
       CASE WHEN NOT n.in_recovery THEN
              pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')
       END::pg_catalog.int8 AS insert_lsn,
       CASE WHEN NOT n.in_recovery THEN
              pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), '0/0')
       END::pg_catalog.int8 AS flush_lsn,
       CASE WHEN n.in_recovery THEN
              pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_receive_lsn(), '0/0')
       END::pg_catalog.int8 AS receive_lsn,
       CASE WHEN n.in_recovery THEN
              pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0')
       END::pg_catalog.int8 AS replay_lsn,
       CASE WHEN NOT n.in_recovery THEN
              pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0')
       END::pg_catalog.int8 AS fork_lsn,
       CASE WHEN n.in_recovery THEN
              pg_catalog.date_part('epoch',
                pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())
       END AS replay_age_s,
       w.pid IS NOT NULL AS has_receiver,
       w.status AS receiver_status,
       pg_catalog.date_part('epoch',
         pg_catalog.clock_timestamp() - w.last_msg_receipt_time) AS receiver_silent_s,
       CASE WHEN n.in_recovery THEN
              pg_catalog.date_part('epoch',
                pg_catalog.current_setting('wal_receiver_timeout')::pg_catalog.interval)
       END AS receiver_timeout_s,
       w.conninfo AS receiver_conninfo,
       CASE WHEN NOT n.in_recovery THEN
              pg_catalog.current_setting('synchronous_standby_names')
       END AS synchronous,
       CASE WHEN NOT n.in_recovery THEN
              (SELECT pg_catalog.json_object_agg(r.application_name, r.sync_state)
                 FROM pg_catalog.pg_stat_replication r WHERE r.state = 'streaming')
       END::pg_catalog.text AS standbys,
       pg_catalog.current_setting('default_transaction_read_only') = 'on' AS read_only,
       pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS server_version_num,
       pg_catalog.current_setting('max_connections')::pg_catalog.int4 AS max_connections,
       pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
         + coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0)
         AS reserved_connections,
       pg_catalog.current_setting('wal_block_size')::pg_catalog.int8 AS wal_block_size,
       {system_identifier} AS system_identifier
  FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery OFFSET 0) n
  LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON n.in_recovery
"""

# min_recovery_end_timeline is 0 on a standby that was shut down cleanly.
FULL_QUESTION = _QUESTION.format(
    control_timeline="""(SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
                 FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r)""",
    system_identifier="(SELECT s.system_identifier FROM pg_catalog.pg_control_system() s)",
)
"""Everything a `Sample` holds."""

REDUCED_QUESTION = _QUESTION.format(control_timeline="NULL", system_identifier="NULL::int8")
"""Without the control file, for servers where its functions were revoked or do not exist."""


def read_answer(row: Mapping[str, Any], at: float, round_trip_s: float) -> Sample:
    """Turn the one row of an answer into a `Sample`.

    at: when the question was sent; round_trip_s: seconds until the answer.
    """
    in_recovery: bool = row["in_recovery"]
    return Sample(
        at=at,
        round_trip_s=round_trip_s,
        in_recovery=in_recovery,
        timeline=row["timeline"],
        insert_lsn=_end_of_wal(row["insert_lsn"], row["flush_lsn"], row["wal_block_size"]),
        receive_lsn=row["receive_lsn"],
        replay_lsn=row["replay_lsn"],
        fork_lsn=row["fork_lsn"],
        replay_age_s=row["replay_age_s"],
        streaming=_is_streaming(row) if in_recovery else None,
        receiver_silent_s=row["receiver_silent_s"],
        read_only=row["read_only"],
        server_version_num=row["server_version_num"],
        system_identifier=row["system_identifier"],
        max_connections=row["max_connections"],
        reserved_connections=row["reserved_connections"],
        receiver_timeout_s=row["receiver_timeout_s"],
        standby_name=_name_at_upstream(row["receiver_conninfo"]),
        synchronous=row["synchronous"] or "",
        standbys=_read_standbys(row["standbys"]),
    )


def missing_rights(row: Mapping[str, Any]) -> str | None:
    """Say what an answer lacks because the role may not see it, or None when it is complete."""
    if row["has_receiver"] and row["receiver_status"] is None:
        return "pg_stat_wal_receiver shows it no status and no timeline; GRANT pg_monitor to it"
    return None


def _end_of_wal(insert_lsn: int | None, flush_lsn: int | None, block_bytes: int) -> int | None:
    """Where the last record ends, which is what a replica can replay up to.

    At the start of a page the insert position is already past the page's header (24 bytes, 40 at
    the start of a segment; src/include/access/xlog_internal.h). Nothing fills that gap before the
    next write: an idle replica would seem to lag, and a session would wait for it, for ever.
    """
    if insert_lsn is None or flush_lsn is None:
        return insert_lsn
    only_header = flush_lsn % block_bytes == 0 and insert_lsn - flush_lsn in (24, 40)
    return flush_lsn if only_header else insert_lsn


def _name_at_upstream(conninfo: str | None) -> str | None:
    """What a replica is called in `synchronous_standby_names` and `pg_stat_replication`."""
    if conninfo is None:
        return None
    words = parse_conninfo(conninfo)
    return words.get("application_name") or words.get("fallback_application_name")


def _read_standbys(text: str | None) -> Mapping[str, str]:
    """The standbys that stream from a primary: name -> sync_state, null for who may not see it."""
    return {} if text is None else {name: state or "" for name, state in json.loads(text).items()}


def _is_streaming(row: Mapping[str, Any]) -> bool:
    # Everybody sees the receiver's pid; its status takes pg_monitor. Unseen it is given credit:
    # a replica that does not get on shows in bytes all the same.
    return bool(row["has_receiver"]) and row["receiver_status"] in (None, "streaming")
