"""A COPY that fails while its data are on their way: how many replies are owed is not guessed."""

import pytest

from tests.faults.raw_client import SYNC, bind, execute, message, parse, query
from tests.faults.stage import Stage
from tests.faults.wire import Script, Scripted, ready

COPY = "COPY t FROM STDIN (FREEZE)"
EXTENDED_COPY = parse("", COPY) + bind("", "") + execute() + SYNC
COPY_IN = message(b"G", b"\0\0\0")
BOUND = message(b"1") + message(b"2")
REFUSED = message(b"E", b"SERROR\0VERROR\0C55000\0Mtoo late to freeze\0\0")
DATA = message(b"d", b"1\n")
COPY_DONE = message(b"c")


def until(server: Scripted, kind: bytes) -> None:
    """Read up to and with the first message of this kind."""
    while (asked := server.read()) is not None:
        if asked.kind == kind:
            return
    raise AssertionError(f"closed before {kind!r}")


def is_honest(server: Scripted) -> None:
    """Answer what comes: an empty query with its own reply, others with a row."""
    while (asked := server.read()) is not None:
        if asked.kind == b"Q" and asked.body == b"\0":
            server.send(message(b"I") + ready())
        elif asked.kind == b"Q":
            server.answer("honest")
        elif asked.kind == b"S":
            server.send(ready())


def fails_simply(server: Scripted) -> None:
    """The error is out before the CopyDone comes in; ReadyForQuery follows."""
    server.log_in()
    until(server, b"Q")
    server.send(COPY_IN)
    until(server, b"d")
    server.send(REFUSED)
    until(server, b"c")
    server.send(ready())
    is_honest(server)


def fails_reading(server: Scripted) -> None:
    """It had begun to read data, and passed over the first Sync: it answers the second alone."""
    server.log_in()
    until(server, b"S")
    server.send(BOUND + COPY_IN)
    until(server, b"d")
    server.send(REFUSED)
    until(server, b"S")
    server.send(ready())
    is_honest(server)


def fails_first(server: Scripted) -> None:
    """It has read nothing of the data, which are on their way: both Syncs are answered."""
    server.log_in()
    until(server, b"S")
    server.send(BOUND + COPY_IN)
    until(server, b"c")
    server.send(REFUSED + ready())
    until(server, b"S")
    server.send(ready())
    is_honest(server)


def fails_first_and_late(server: Scripted) -> None:
    """The same, and the error comes when both Syncs have been sent."""
    server.log_in()
    until(server, b"S")
    server.send(BOUND + COPY_IN)
    until(server, b"S")
    server.send(REFUSED + ready() + ready())
    is_honest(server)


def fails_first_and_in_pieces(server: Scripted) -> None:
    """The same, and the second ReadyForQuery comes only after the proxy has asked."""
    server.log_in()
    until(server, b"S")
    server.send(BOUND + COPY_IN)
    until(server, b"S")
    server.send(REFUSED + ready())
    until(server, b"Q")
    server.send(ready() + message(b"I") + ready())
    is_honest(server)


def test_a_copy_done_between_the_error_and_ready_for_query_is_owed_nothing(stage: Stage) -> None:
    database = stage.play(fails_simply)
    with stage.client_of(database) as one, stage.client_of(database) as two:
        one.send(query(COPY))
        one.read_until(b"G")
        one.send(DATA)
        assert one.read_until(b"E")[-1].fields["C"] == "55000"
        one.send(COPY_DONE)
        one.read_until(b"Z")
        assert two.value("SELECT") == "honest"


FAILING = [fails_reading, fails_first, fails_first_and_late, fails_first_and_in_pieces]


@pytest.mark.parametrize("script", FAILING)
def test_the_server_of_a_failed_copy_is_in_step_for_the_next_client(
    stage: Stage, script: Script
) -> None:
    database = stage.play(script)
    with stage.client_of(database) as one, stage.client_of(database) as two:
        one.send(EXTENDED_COPY)
        one.read_until(b"G")
        one.send(DATA)
        one.send(COPY_DONE)
        one.send(SYNC)
        assert one.read_until(b"E")[-1].fields["C"] == "55000"
        one.read_until(b"Z")
        assert [two.value("SELECT") for _ in range(3)] == ["honest"] * 3
        assert stage.played.count(database) == 1, "the connection was given up"


def test_what_is_pipelined_behind_a_failed_copy_is_answered_by_its_own_reply(stage: Stage) -> None:
    database = stage.play(fails_first_and_late)
    with stage.client_of(database) as one, stage.client_of(database) as two:
        one.send(EXTENDED_COPY)
        one.read_until(b"G")
        one.send(DATA + COPY_DONE + SYNC + query("SELECT"))
        assert one.read_until(b"E")[-1].fields["C"] == "55000"
        assert one.read_until(b"D")[-1].columns == [b"honest"]
        one.read_until(b"Z")
        assert two.value("SELECT") == "honest"
        assert stage.played.count(database) == 1, "the connection was given up"


def test_a_sync_alone_behind_a_failed_copy_is_not_answered_by_chance(stage: Stage) -> None:
    """Which of two Syncs a ReadyForQuery answers cannot be told: the connection is given up."""
    servers: list[Scripted] = []

    def script(server: Scripted) -> None:
        servers.append(server)
        if len(servers) == 1:
            fails_first_and_late(server)
        else:
            server.log_in()
            is_honest(server)

    database = stage.play(script)
    with stage.client_of(database) as one, stage.client_of(database) as two:
        one.send(EXTENDED_COPY)
        one.read_until(b"G")
        one.send(DATA + COPY_DONE + SYNC + SYNC)
        assert one.read_until(b"E")[-1].fields["C"] == "55000"
        assert two.value("SELECT") == "honest"
        assert len(servers) == 2
