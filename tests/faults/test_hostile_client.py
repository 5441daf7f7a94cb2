"""Whatever a client sends, logged in or not: the proxy stays up, others are undisturbed."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.faults.raw_client import (
    FLUSH,
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    SYNC,
    Message,
    RawClient,
    bind,
    close,
    execute,
    message,
    packet,
    parse,
    query,
    startup,
)
from tests.fixtures.pgweir import Pgweir, resident_bytes
from tests.fixtures.postgres import APP, DATABASE, Postgres


@pytest.fixture
def bystander(open_weir: Pgweir) -> Iterator[RawClient]:
    """A client who was there before, and is served as before at the end."""
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        assert client.value("SELECT 'before'") == "before"
        yield client
        assert client.value("SELECT 'after'") == "after"


def errors_in(messages: list[Message]) -> list[str]:
    return [each.fields["C"] for each in messages if each.kind == b"E"]


GOOD_STARTUP = startup(user=APP.name, database=DATABASE)

BAD_FIRST_PACKETS = {
    "length_0": struct.pack("!ii", 0, PROTOCOL_3_0),
    "length_1": struct.pack("!ii", 1, PROTOCOL_3_0),
    "length_3": struct.pack("!ii", 3, PROTOCOL_3_0),
    "length_4": struct.pack("!ii", 4, PROTOCOL_3_0),
    "length_7": struct.pack("!ii", 7, PROTOCOL_3_0),
    "length_negative": struct.pack("!ii", -1, PROTOCOL_3_0),
    "length_most_negative": struct.pack("!ii", -(2**31), PROTOCOL_3_0),
    "length_most": struct.pack("!ii", 2**31 - 1, PROTOCOL_3_0),
    "length_over_limit": struct.pack("!ii", 10_001, PROTOCOL_3_0),
    "version_2": packet(struct.pack("!i", 131072) + b"user\0app\0\0"),
    "version_4": packet(struct.pack("!i", 4 << 16) + b"user\0app\0\0"),
    "unknown_request": packet(struct.pack("!i", 80877105) + b"user\0app\0\0"),
    "no_user": startup(database=DATABASE),
    "empty_user": startup(user="", database=DATABASE),
    "no_terminator": packet(struct.pack("!i", PROTOCOL_3_0) + b"user\0app\0"),
    "missing_nul": packet(struct.pack("!i", PROTOCOL_3_0) + b"user\0app"),
    "name_without_value": packet(struct.pack("!i", PROTOCOL_3_0) + b"user\0app\0database\0\0"),
    "bytes_behind": packet(struct.pack("!i", PROTOCOL_3_0) + b"user\0app\0\0x\0y\0"),
    "empty_name": packet(struct.pack("!i", PROTOCOL_3_0) + b"\0x\0user\0app\0\0"),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls_without_request": bytes.fromhex("160301020001fc0303") + b"\0" * 100,
    "short_cancel": packet(struct.pack("!ii", 80877102, 1)),
    "long_cancel": packet(struct.pack("!ii", 80877102, 1) + b"x" * 300),
    "two_ssl_requests": packet(struct.pack("!i", SSL_REQUEST)) * 2,
    "two_gss_requests": packet(struct.pack("!i", GSSENC_REQUEST)) * 2,
    "stuffed_behind_ssl_request": packet(struct.pack("!i", SSL_REQUEST)) + GOOD_STARTUP,
    "stuffed_behind_gss_request": packet(struct.pack("!i", GSSENC_REQUEST)) + GOOD_STARTUP,
}


@pytest.mark.parametrize("first", BAD_FIRST_PACKETS.values(), ids=BAD_FIRST_PACKETS.keys())
def test_a_malformed_first_packet_is_refused_and_closed(
    open_weir: Pgweir, bystander: RawClient, first: bytes
) -> None:
    with RawClient(open_weir.port) as stranger:
        stranger.send(first)
        octets = b""
        try:
            while more := stranger.socket.recv(4096):
                octets += more
        except ConnectionResetError:
            pass  # it had bytes of ours unread when it closed
        assert b"R\0\0\0\x08\0\0\0\0" not in octets


def test_a_refused_first_packet_is_counted_and_logged(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    """In a proxy of its own: after a flood of refusals, they are logged ten seconds later."""
    weir = start_pgweir(pg18)
    with RawClient(weir.port) as stranger:
        stranger.send(BAD_FIRST_PACKETS["length_most"])
        assert errors_in(stranger.read_to_end()) == ["08P01"]
    assert weir.metric("pgweir_refusals_total", reason="protocol_error") == 1
    weir.wait_for_log("client refused .*08P01")


@pytest.mark.parametrize("cut_at", range(len(GOOD_STARTUP)))
def test_a_startup_packet_cut_at_any_byte_leaves_nothing_behind(
    open_weir: Pgweir, bystander: RawClient, cut_at: int
) -> None:
    with RawClient(open_weir.port) as stranger:
        stranger.send(GOOD_STARTUP[:cut_at])
        stranger.socket.shutdown(socket.SHUT_WR)
        assert stranger.read() is None


def test_a_startup_packet_byte_by_byte_is_as_good_as_whole(open_weir: Pgweir) -> None:
    with RawClient(open_weir.port) as client:
        for at in range(len(GOOD_STARTUP)):
            client.send(GOOD_STARTUP[at : at + 1])
        client.read_until(b"Z")


def test_a_query_behind_the_startup_packet_is_answered(open_weir: Pgweir) -> None:
    with RawClient(open_weir.port) as client:
        client.send(GOOD_STARTUP + query("SELECT 'early'"))
        client.read_until(b"Z")
        rows = [each.columns for each in client.read_until(b"Z") if each.kind == b"D"]
        assert rows == [[b"early"]]


def test_a_login_that_takes_too_long_is_ended(open_weir: Pgweir) -> None:
    """Slow loris: a byte now and then must not keep the connection for ever."""
    before = open_weir.metric("pgweir_refusals_total", reason="login_timeout")
    with RawClient(open_weir.port) as slow:
        slow.socket.settimeout(0.2)
        ended = False
        for at in range(40):
            try:
                slow.send(GOOD_STARTUP[at % 8 : at % 8 + 1] if at else b"\0")
                if slow.socket.recv(1) in (b"", b"E"):
                    ended = True
                    break
            except TimeoutError:
                continue
            except OSError:
                ended = True
                break
        assert ended
    assert open_weir.metric("pgweir_refusals_total", reason="login_timeout") == before + 1


def test_many_silent_strangers_do_not_keep_a_client_out(open_weir: Pgweir) -> None:
    strangers = [RawClient(open_weir.port) for _ in range(300)]
    try:
        with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
            assert client.value("SELECT 'in'") == "in"
    finally:
        for each in strangers:
            each.close()


def test_garbage_of_any_length_before_the_login_is_refused(
    open_weir: Pgweir, bystander: RawClient
) -> None:
    for seed in range(60):
        octets = (struct.pack("!Q", seed * 0x9E3779B97F4A7C15 % 2**64) * 40)[: 1 + seed * 5]
        with RawClient(open_weir.port) as stranger:
            stranger.send(octets)
            stranger.socket.shutdown(socket.SHUT_WR)
            while True:
                try:
                    if not stranger.socket.recv(4096):
                        break
                except ConnectionResetError:
                    break


BAD_MESSAGES = {
    "length_0": b"Q" + struct.pack("!i", 0),
    "length_1": b"Q" + struct.pack("!i", 1),
    "length_3": b"Q" + struct.pack("!i", 3),
    "length_negative": b"Q" + struct.pack("!i", -1),
    "length_most_negative": b"P" + struct.pack("!i", -(2**31)),
    "length_most": b"Q" + struct.pack("!i", 2**31 - 1),
    "length_over_large_limit": b"B" + struct.pack("!i", 0x3FFFFFFF),
    "length_over_small_limit": b"D" + struct.pack("!i", 10_001),
    "sync_over_limit": b"S" + struct.pack("!i", 2**31 - 1),
    "unknown_kind": message(b"z", b"what"),
    "nul_kind": message(b"\0"),
    "password_after_login": message(b"p", b"secret\0"),
    "servers_kind": message(b"R", struct.pack("!i", 0)),
    "startup_again": GOOD_STARTUP,
    "query_without_nul": message(b"Q", b"SELECT 1"),
    "empty_query_body": message(b"Q"),
    "parse_without_nuls": message(b"P", b"abc"),
    "parse_empty": message(b"P"),
    "bind_without_nuls": message(b"B", b"abc"),
    "bind_empty": message(b"B"),
    "describe_empty": message(b"D"),
    "describe_without_nul": message(b"D", b"Sabc"),
    "close_empty": message(b"C"),
    "close_without_nul": message(b"C", b"Sabc"),
    "sync_with_body": message(b"S", b"x"),
    "execute_empty": message(b"E"),
    "execute_without_count": message(b"E", b"\0"),
    "parse_count_too_large": message(b"P", b"\0SELECT 1\0\x7f\xff"),
    "parse_count_negative": message(b"P", b"\0SELECT 1\0\xff\xff"),
    "bind_counts_too_large": message(b"B", b"\0\0\x7f\xff\x7f\xff"),
    "bind_value_too_long": message(b"B", b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
    "describe_of_nothing": message(b"D", b"x\0"),
    "function_call_empty": message(b"F"),
}


@pytest.mark.parametrize("bad", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
@pytest.mark.parametrize("state", ["idle", "transaction", "pipeline"])
def test_a_malformed_message_gets_an_error(
    open_weir: Pgweir, bystander: RawClient, bad: bytes, state: str
) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        if state == "transaction":
            client.ask("BEGIN")
            client.ask("SELECT 1")
        if state == "pipeline":
            client.send(parse("", "SELECT 1") + bind("", "") + execute())
        client.send(bad + SYNC)
        replies: list[Message] = []
        while (each := client.read()) is not None:
            replies.append(each)
            if each.kind == b"Z" and errors_in(replies):
                break
        assert errors_in(replies), replies


def test_a_broken_protocol_is_counted_and_logged(open_weir: Pgweir) -> None:
    before = open_weir.metric("pgweir_protocol_errors_total", peer="client")
    line = len(open_weir.log)
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        client.send(BAD_MESSAGES["length_0"])
        assert errors_in(client.read_to_end()) == ["08P01"]
    assert open_weir.metric("pgweir_protocol_errors_total", peer="client") == before + 1
    open_weir.wait_for_log("client disconnected.*protocol violation", since=line)


def test_a_conversation_cut_at_any_byte_leaves_its_server_clean(
    open_weir: Pgweir, bystander: RawClient
) -> None:
    conversation = (
        query("SELECT 1")
        + parse("s", "SELECT 2")
        + bind("p", "s")
        + execute("p")
        + SYNC
        + query("BEGIN")
        + query("SELECT 3")
        + query("COPY (SELECT 1) TO STDOUT")
    )
    for cut_at in range(len(conversation)):
        with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
            client.send(conversation[:cut_at])
    open_weir.wait_until(lambda: open_weir.metric("pgweir_client_connections") == 1)
    for _ in range(8):
        assert bystander.value("SELECT now() = statement_timestamp()") == "t"


def test_a_conversation_byte_by_byte_is_as_good_as_whole(open_weir: Pgweir) -> None:
    conversation = (
        query("SELECT 'simple'")
        + parse("s", "SELECT 'extended'")
        + bind("", "s")
        + execute()
        + SYNC
    )
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        for at in range(len(conversation)):
            client.send(conversation[at : at + 1])
        first, second = client.read_until(b"Z"), client.read_until(b"Z")
        rows = [each.columns for each in (*first, *second) if each.kind == b"D"]
        assert rows == [[b"simple"], [b"extended"]]


@pytest.mark.parametrize("kind", [b"d", b"c", b"f"])
def test_copy_messages_outside_a_copy_are_ignored(open_weir: Pgweir, kind: bytes) -> None:
    """As PostgreSQL ignores them: they may be leftovers of a COPY that failed."""
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        client.send(message(kind, b"x\0") * 100)
        assert client.value("SELECT 'on'") == "on"


def test_a_million_syncs_get_a_million_answers_in_bounded_memory(open_weir: Pgweir) -> None:
    count, batch = 1_000_000, 20_000
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        before = resident_bytes(open_weir.process.pid)

        def flood() -> None:
            for _ in range(count // batch):
                client.send(SYNC * batch)

        sender = threading.Thread(target=flood, daemon=True)
        sender.start()
        left = 6 * count
        while left:
            octets = client.socket.recv(min(left, 1 << 16))
            assert octets
            left -= len(octets)
        sender.join(10)
        assert client.value("SELECT 'done'") == "done"
        assert resident_bytes(open_weir.process.pid) - before < 32 << 20


def test_a_flood_whose_answers_nobody_reads_is_held_back(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        before = resident_bytes(open_weir.process.pid)
        client.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < 256 << 20:
                sent += client.socket.send(SYNC * 50_000)
        except TimeoutError:
            pass
        assert sent < 256 << 20
        assert resident_bytes(open_weir.process.pid) - before < 16 << 20


def test_a_flood_of_flushes_is_harmless(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        for _ in range(50):
            client.send(FLUSH * 10_000)
        assert client.value("SELECT 'done'") == "done"


def test_a_flood_of_flushes_in_a_transaction_is_harmless(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        client.ask("BEGIN")
        client.ask("SELECT 1")
        for _ in range(20):
            client.send(FLUSH * 10_000)
        assert client.value("SELECT 'done'") == "done"


def test_a_hundred_thousand_named_statements_are_refused_at_the_limit(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    weir = start_pgweir(
        pg18,
        auth={"method": "trust"},
        limits={"max_client_statements": 1000},
        log={"level": "info"},
    )
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        errors: list[str] = []
        for batch in range(20):
            names = range(batch * 5000, batch * 5000 + 5000, 50)
            for first in names:
                client.send(
                    b"".join(parse(f"s{each}", "SELECT 1") for each in range(first, first + 50))
                    + SYNC
                )
                errors += errors_in(client.read_until(b"Z"))
        assert set(errors) == {"54000"}
        client.send(bind("", "s1") + execute() + SYNC)
        assert [each.columns for each in client.read_until(b"Z") if each.kind == b"D"] == [[b"1"]]


def test_twenty_thousand_statements_opened_and_closed_in_one_unit_are_answered(
    open_weir: Pgweir,
) -> None:
    """Known to the server, so that every answer is the proxy's own: none comes from the server."""
    pairs = 10_000
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        client.send(parse("a", "SELECT 'often'") + SYNC)
        client.read_until(b"Z")
        client.send(close("S", "a") + SYNC)
        client.read_until(b"Z")
        client.send((parse("a", "SELECT 'often'") + close("S", "a")) * pairs + SYNC)
        kinds = [each.kind for each in client.read_until(b"Z")]
        assert (kinds.count(b"1"), kinds.count(b"3")) == (pairs, pairs)


def test_a_huge_bind_of_a_command_we_answer_ourselves_is_not_collected(
    open_weir: Pgweir,
) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        client.send(parse("", "BEGIN") + SYNC)
        client.read_until(b"Z")
        before = resident_bytes(open_weir.process.pid)
        total = 128 << 20
        client.send(b"B" + struct.pack("!i", 4 + total) + b"\0\0" + b"\0\0\0\x01")
        client.send(struct.pack("!i", total - 12))
        piece = b"x" * (1 << 20)
        try:
            for _ in range(100):
                client.send(piece)
        except OSError:
            return  # refused: as good
        open_weir.wait_until(
            lambda: open_weir.metric("pgweir_bytes_total", direction="received") > 100 << 20
        )
        assert resident_bytes(open_weir.process.pid) - before < 32 << 20


@pytest.mark.parametrize("kind", [b"Q", b"P", b"B", b"F", b"d"])
def test_what_a_message_announces_takes_no_memory(open_weir: Pgweir, kind: bytes) -> None:
    """A gibibyte each, of which a little comes."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(RawClient.logged_in(open_weir.port, APP.name, DATABASE))
            for _ in range(50)
        ]
        received = open_weir.metric("pgweir_bytes_total", direction="received")
        before = resident_bytes(open_weir.process.pid)
        for each in clients:
            each.send(kind + struct.pack("!i", 0x3FFFFFFE) + b"\0SELECT 1\0\0" + b"x" * 20_000)
        open_weir.wait_until(
            lambda: open_weir.metric("pgweir_bytes_total", direction="received") - received >= 1_000
        )
        assert resident_bytes(open_weir.process.pid) - before < 16 << 20


def test_a_long_query_is_passed_on_in_bounded_memory(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        before = resident_bytes(open_weir.process.pid)
        sql = b"SELECT length('" + b"x" * (64 << 20) + b"')\0"
        client.send(message(b"Q", sql))
        rows = [each.columns for each in client.read_until(b"Z") if each.kind == b"D"]
        assert rows == [[str(64 << 20).encode()]]
        assert resident_bytes(open_weir.process.pid) - before < 16 << 20


def test_a_slow_reader_of_a_large_result_does_not_fill_our_memory(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        before = resident_bytes(open_weir.process.pid)
        client.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)"))
        open_weir.wait_until(
            lambda: open_weir.metric("pgweir_client_connections", state="active") >= 1
        )
        assert resident_bytes(open_weir.process.pid) - before < 16 << 20
        rows = [each for each in client.read_until(b"Z") if each.kind == b"D"]
        assert [len(each.columns[0] or b"") for each in rows] == [1_000_000] * 100


def test_databases_that_do_not_exist_leave_no_pools_behind(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    """Names that a client makes up must not grow the pools, the metrics, or the work per tick."""
    weir = start_pgweir(
        pg18, auth={"method": "trust"}, databases={"*": {"cluster": "main"}}, log={"level": "info"}
    )
    for number in range(60):
        with RawClient(weir.port) as client:
            client.send(startup(user=APP.name, database=f"nowhere{number}"))
            assert errors_in(client.read_to_end()) == ["3D000"]
    _, text = weir.http("/metrics")
    assert '"nowhere' not in text


def test_users_that_do_not_exist_leave_no_pools_behind(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    auth = {"method": "trust", "failure_delay": 0}
    weir = start_pgweir(pg18, auth=auth, log={"level": "info"})
    for number in range(40):
        with RawClient(weir.port) as client:
            client.send(startup(user=f"nobody{number}", database=DATABASE))
            assert errors_in(client.read_to_end())
    _, text = weir.http("/metrics")
    assert '"nobody' not in text
