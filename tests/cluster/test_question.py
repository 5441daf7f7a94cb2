"""How the row a node answers with becomes a sample."""

import pytest

from proxy.cluster.question import missing_rights, read_answer

PAGE = 8192
ON_PRIMARY = {
    "in_recovery": False,
    "timeline": 1,
    "insert_lsn": 5000,
    "flush_lsn": 5000,
    "receive_lsn": None,
    "replay_lsn": None,
    "fork_lsn": None,
    "replay_age_s": None,
    "has_receiver": False,
    "receiver_status": None,
    "receiver_silent_s": None,
    "receiver_timeout_s": None,
    "receiver_conninfo": None,
    "synchronous": "",
    "standbys": None,
    "read_only": False,
    "server_version_num": 180000,
    "max_connections": 100,
    "reserved_connections": 3,
    "wal_block_size": PAGE,
    "system_identifier": 7,
}
ON_REPLICA = {
    **ON_PRIMARY,
    "in_recovery": True,
    "insert_lsn": None,
    "flush_lsn": None,
    "receive_lsn": 5000,
    "replay_lsn": 5000,
    "has_receiver": True,
    "receiver_status": "streaming",
}


@pytest.mark.parametrize(
    ("insert_lsn", "flush_lsn", "end"),
    [
        (5000, 5000, 5000),
        (5040, 5000, 5040),
        (3 * PAGE + 24, 3 * PAGE, 3 * PAGE),
        (3 * PAGE + 40, 3 * PAGE, 3 * PAGE),
        (3 * PAGE + 48, 3 * PAGE, 3 * PAGE + 48),
        (3 * PAGE + 24, 3 * PAGE - 8, 3 * PAGE + 24),
    ],
)
def test_header_of_a_page_not_yet_written_on_is_not_counted(
    insert_lsn: int, flush_lsn: int, end: int
) -> None:
    row = {**ON_PRIMARY, "insert_lsn": insert_lsn, "flush_lsn": flush_lsn}
    assert read_answer(row, 1.0, 0.1).insert_lsn == end


@pytest.mark.parametrize(
    ("has_receiver", "status", "streaming"),
    [
        (True, "streaming", True),
        (True, "waiting", False),
        (True, "starting", False),
        (True, None, True),
        (False, None, False),
    ],
)
def test_replica_streams_when_its_receiver_does(
    has_receiver: bool, status: str | None, streaming: bool
) -> None:
    row = {**ON_REPLICA, "has_receiver": has_receiver, "receiver_status": status}
    assert read_answer(row, 1.0, 0.1).streaming is streaming


def test_primary_has_no_receiver_to_speak_of() -> None:
    assert read_answer(ON_PRIMARY, 1.0, 0.1).streaming is None


def test_a_receiver_without_status_means_missing_rights() -> None:
    lack = missing_rights({**ON_REPLICA, "receiver_status": None})
    assert lack is not None
    assert "pg_monitor" in lack


@pytest.mark.parametrize("row", [ON_PRIMARY, ON_REPLICA, {**ON_REPLICA, "has_receiver": False}])
def test_a_complete_answer_lacks_nothing(row: dict[str, object]) -> None:
    if row["has_receiver"] is False:
        row = {**row, "receiver_status": None}
    assert missing_rights(row) is None
