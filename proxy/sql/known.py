"""What PostgreSQL's catalogue alone would misjudge, in either direction.

Functions, views and settings that look like what they are not: volatile and harmless, or not
volatile and yet bound to one node; functions that touch the session. Used by `reading` and
`verdict`.
"""

from proxy.sql.facts import Touch


def names(text: str) -> frozenset[str]:
    """Read a table: words with space between them."""
    return frozenset(text.split())


# Volatile, because two calls differ; but they change nothing, and a replica has them as well.
HARMLESS = names(
    """
    random random_normal clock_timestamp timeofday gen_random_uuid uuidv4 uuidv7
    array_sample array_shuffle pg_sleep pg_sleep_for pg_sleep_until
    """
)
# Of uuid-ossp and pgcrypto, which may be in any schema.
HARMLESS_OF_EXTENSIONS = names(
    """
    uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 gen_random_bytes gen_salt gen_random_uuid
    """
)

# Not volatile, and yet refused by a replica, or answered by each node in its own way.
OF_THE_NODE = names(
    """
    txid_current pg_current_xact_id txid_current_if_assigned pg_current_xact_id_if_assigned
    txid_current_snapshot pg_current_snapshot txid_status pg_xact_status
    pg_backend_pid pg_my_temp_schema pg_is_other_temp_schema pg_listening_channels
    inet_server_addr inet_server_port inet_client_addr inet_client_port
    pg_postmaster_start_time pg_conf_load_time pg_cursor pg_prepared_statement pg_prepared_xact
    pg_show_all_settings pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings
    pg_is_in_recovery pg_is_wal_replay_paused pg_lock_status pg_blocking_pids
    pg_safe_snapshot_blocking_pids pg_available_wal_summaries pg_wal_summary_contents
    pg_get_wal_summarizer_state pg_get_replication_slots pg_get_shmem_allocations
    pg_get_backend_memory_contexts pg_config pg_last_committed_xact pg_xact_commit_timestamp
    """
)
OF_THE_NODE_PREFIXES = ("pg_stat_", "pg_control_", "pg_ls_")

# Views of what the one node is doing, or of the one session.
NODE_VIEW_PREFIXES = ("pg_stat_", "pg_statio_")
NODE_VIEWS = names(
    """
    pg_locks pg_settings pg_cursors pg_prepared_statements pg_prepared_xacts pg_replication_slots
    pg_file_settings pg_hba_file_rules pg_ident_file_mappings pg_shmem_allocations pg_aios
    pg_shmem_allocations_numa pg_backend_memory_contexts pg_config pg_replication_origin_status
    pg_buffercache pg_wait_sampling_current pg_sequences
    """
)
# Settings that say which node this is.
NODE_SETTINGS = names(
    """
    all transaction_read_only in_hot_standby data_directory config_file hba_file ident_file
    external_pid_file listen_addresses port unix_socket_directories cluster_name
    primary_conninfo primary_slot_name restore_command recovery_target_timeline
    synchronous_standby_names data_directory_mode
    """
)

# Functions that touch the session. What they are given is a constant, mostly, so the subject is "".
TOUCHING_FUNCTIONS = {
    "set_config": Touch.SETTING,
    "setseed": Touch.SEED,
    "nextval": Touch.SEQUENCE,
    "setval": Touch.SEQUENCE,
    "currval": Touch.SEQUENCE,
    "lastval": Touch.SEQUENCE,
    "pg_notify": Touch.NOTIFY,
    "pg_export_snapshot": Touch.SNAPSHOT,
    "pg_advisory_lock": Touch.ADVISORY_LOCK,
    "pg_advisory_lock_shared": Touch.ADVISORY_LOCK,
    "pg_try_advisory_lock": Touch.ADVISORY_LOCK,
    "pg_try_advisory_lock_shared": Touch.ADVISORY_LOCK,
    "pg_advisory_unlock": Touch.ADVISORY_LOCK,
    "pg_advisory_unlock_shared": Touch.ADVISORY_LOCK,
    "pg_advisory_unlock_all": Touch.ADVISORY_LOCK,
}
