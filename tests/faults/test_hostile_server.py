"""A server is a stranger, too: its client gets an error or a closed connection, never its lies."""

import contextlib
import itertools
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from proxy.auth.keys import derive_keys
from proxy.auth.scram import ScramServer
from tests.faults.raw_client import (
    SYNC,
    Message,
    RawClient,
    bind,
    execute,
    message,
    parse,
    query,
)
from tests.faults.stage import PATIENT, Stage
from tests.faults.wire import (
    Script,
    Scripted,
    Wire,
    complete,
    login,
    ready,
    reply,
    row,
    row_description,
)
from tests.fixtures.pgweir import Pgweir, resident_bytes
from tests.fixtures.postgres import APP, DATABASE

AUTH_OK = message(b"R", struct.pack("!i", 0))
SASL = message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")


def sasl_continue(text: bytes) -> bytes:
    return message(b"R", struct.pack("!i", 11) + text)


def client_nonce(first: Message) -> bytes:
    """The nonce in a SASLInitialResponse."""
    return first.body.rpartition(b",r=")[2]


def says(octets: bytes) -> Script:
    """A server that says this at once, whatever it is asked, and waits."""

    def script(server: Scripted) -> None:
        server.send(octets)
        server.wait_for_end()

    return script


def says_and_closes(octets: bytes) -> Script:
    """A server that says this and is gone."""

    def script(server: Scripted) -> None:
        server.send(octets)

    return script


def answers_scram(first: Callable[[bytes], bytes]) -> Script:
    """A server whose second SCRAM message is made from the client's nonce."""

    def script(server: Scripted) -> None:
        server.send(SASL)
        # A proxy that nobody waits for any more gives up.
        if (asked := server.read()) is not None:
            server.send(first(client_nonce(asked)))
            server.wait_for_end()

    return script


def scram_server(
    first: Callable[[bytes], bytes] = lambda said: said,
    final: Callable[[bytes], bytes] = lambda said: said + login(),
) -> Script:
    """A server that knows the password; what it says is changed on the way."""

    def script(server: Scripted) -> None:
        exchange = ScramServer(VERIFIER, True, b"thenonceoftheserver")
        server.send(SASL)
        if (asked := server.read()) is None:
            return
        challenge = exchange.challenge(asked.body[asked.body.index(b"n,,") :])
        server.send(first(sasl_continue(challenge)))
        if (asked := server.read()) is None:
            return
        signature = exchange.check(asked.body)
        assert signature is not None
        server.send(final(message(b"R", struct.pack("!i", 12) + signature)))
        server.wait_for_end()

    return script


_SALT = b"saltsaltsaltsalt"
VERIFIER = derive_keys(APP.password, _SALT, 4096).verifier(_SALT, 4096)
ASKS_CLEARTEXT = message(b"R", struct.pack("!i", 3))
ASKS_MD5 = message(b"R", struct.pack("!i", 5) + b"salt")
SALT = b"s=c2FsdHNhbHRzYWx0c2FsdA=="

BAD_LOGINS: dict[str, Script] = {
    "unknown_auth_code": says(message(b"R", struct.pack("!i", 99))),
    "negative_auth_code": says(message(b"R", struct.pack("!i", -1))),
    "gss": says(message(b"R", struct.pack("!i", 7))),
    "empty_auth": says(message(b"R")),
    "short_md5_salt": says(message(b"R", struct.pack("!i", 5) + b"ab")),
    "no_sasl_mechanisms": says(message(b"R", struct.pack("!i", 10) + b"\0")),
    "unknown_sasl_mechanism": says(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-1\0\0")),
    "unterminated_mechanisms": says(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256")),
    "continue_without_start": says(sasl_continue(b"r=x," + SALT + b",i=4096")),
    "ok_before_the_servers_signature": answers_scram(lambda _nonce: AUTH_OK + login()),
    "final_before_continue": answers_scram(
        lambda _nonce: message(b"R", struct.pack("!i", 12) + b"v=AAAA")
    ),
    "nonce_not_ours": answers_scram(
        lambda _nonce: sasl_continue(b"r=stranger," + SALT + b",i=4096")
    ),
    "empty_nonce": answers_scram(lambda _nonce: sasl_continue(b"r=," + SALT + b",i=4096")),
    "nonce_not_longer": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"," + SALT + b",i=4096")
    ),
    "huge_nonce": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x" * 60_000 + b"," + SALT + b",i=4096")
    ),
    "huge_iterations": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=2147483647")
    ),
    "iterations_over_an_integer": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=2147483648")
    ),
    "endless_iterations": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=" + b"9" * 60_000)
    ),
    "negative_iterations": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=-1")
    ),
    "huge_salt": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x,s=" + b"QUJD" * 15_000 + b",i=4096")
    ),
    "no_iterations": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=0")
    ),
    "iterations_not_a_number": answers_scram(
        lambda nonce: sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=many")
    ),
    "salt_not_base64": answers_scram(lambda nonce: sasl_continue(b"r=" + nonce + b"x,s=!!,i=4096")),
    "wrong_signature": answers_scram(
        lambda nonce: (
            sasl_continue(b"r=" + nonce + b"x," + SALT + b",i=4096")
            + message(b"R", struct.pack("!i", 12) + b"v=" + b"A" * 43 + b"=")
            + login()
        )
    ),
    "continue_twice": scram_server(first=lambda said: said * 2),
    "sasl_again": scram_server(first=lambda said: said + SASL),
    "password_asked_within_scram": scram_server(first=lambda said: said + ASKS_CLEARTEXT),
    "md5_asked_within_scram": scram_server(first=lambda said: said + ASKS_MD5),
    "ok_instead_of_the_signature": scram_server(final=lambda _said: login()),
    "signature_twice": scram_server(final=lambda said: said * 2 + login()),
    "password_asked_behind_scram": scram_server(final=lambda said: said + ASKS_CLEARTEXT),
    "no_ok_behind_scram": scram_server(final=lambda said: said + login()[len(AUTH_OK) :]),
    "ok_twice": says(AUTH_OK + login()),
    "scram_behind_ok": says(AUTH_OK + SASL),
    "negotiation": says(message(b"v", struct.pack("!ii", 0x30002, 0)) + login()),
    "negotiation_to_another_version": says(message(b"v", struct.pack("!ii", 0x7FFF0000, 0))),
    "negotiation_of_many_options": says(message(b"v", struct.pack("!ii", 0x30000, 2**31 - 1))),
    "negotiation_behind_ok": says(AUTH_OK + message(b"v", struct.pack("!ii", 0x30000, 0))),
    "copy_during_login": says(AUTH_OK + message(b"G", b"\0\0\0")),
    "notification_during_login": says(AUTH_OK + message(b"A", struct.pack("!i", 1) + b"a\0b\0")),
    "parameters_before_ok": says(message(b"S", b"a\0b\0")),
    "ready_before_ok": says(ready()),
    "key_before_ok": says(message(b"K", struct.pack("!ii", 1, 1))),
    "parameter_flood": says_and_closes(
        AUTH_OK + b"".join(message(b"S", b"p%d\0v\0" % n) for n in range(5000))
    ),
    "one_parameter_again_and_again": says_and_closes(AUTH_OK + message(b"S", b"p\0v\0") * 5000),
    "notice_flood": says_and_closes(message(b"N", b"SNOTICE\0Mx\0\0") * 5000),
    "overlong_parameter": says_and_closes(AUTH_OK + message(b"S", b"p\0" + b"v" * 100_000 + b"\0")),
    "malformed_parameter": says(AUTH_OK + message(b"S", b"nothing")),
    "short_key": says(AUTH_OK + message(b"K", b"abc")),
    "long_key": says(AUTH_OK + message(b"K", b"x" * 400)),
    "ready_in_transaction": says(AUTH_OK + ready(b"T")),
    "ready_malformed": says(AUTH_OK + message(b"Z")),
    "row_during_login": says(AUTH_OK + row("x") + ready()),
    "length_0": says(b"R" + struct.pack("!i", 0)),
    "length_negative": says(b"R" + struct.pack("!i", -5)),
    "length_most": says(b"R" + struct.pack("!i", 2**31 - 1)),
    "error_without_fields": says_and_closes(message(b"E", b"\0")),
    "error_empty": says_and_closes(message(b"E")),
    "error_unterminated": says_and_closes(message(b"E", b"SFATAL\0C28000")),
    "error_without_sqlstate": says_and_closes(message(b"E", b"SFATAL\0Mno\0\0")),
    "error_with_a_short_sqlstate": says_and_closes(message(b"E", b"SFATAL\0C28\0Mno\0\0")),
    "error_with_a_long_sqlstate": says_and_closes(
        message(b"E", b"SFATAL\0C" + b"2" * 50_000 + b"\0Mno\0\0")
    ),
    "error_with_a_strange_sqlstate": says_and_closes(message(b"E", b"C\n\xff\"'\\\0Mno\0\0")),
    "error_without_text": says_and_closes(message(b"E", b"SFATAL\0C28000\0\0")),
    "error_with_empty_fields": says_and_closes(message(b"E", b"S\0C\0M\0\0")),
    "http": says_and_closes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "closes_at_once": says_and_closes(b""),
    "half_a_message": says_and_closes(login()[:30]),
}


@pytest.fixture(scope="module")
def refused(scripted_proxy: Stage) -> Iterator[dict[str, tuple[str, RawClient]]]:
    """A client at each of them, all asking at once: database and client by the script's name."""
    databases = {name: scripted_proxy.play(script) for name, script in BAD_LOGINS.items()}
    with contextlib.ExitStack() as stack:
        yield {
            name: (database, stack.enter_context(scripted_proxy.knock(database)))
            for name, database in databases.items()
        }


@pytest.mark.parametrize("name", BAD_LOGINS)
def test_a_server_that_misbehaves_at_login_is_never_used(
    stage: Stage, refused: dict[str, tuple[str, RawClient]], name: str
) -> None:
    database, client = refused[name]
    *_, last = client.read_to_end()
    assert last.kind == b"E"
    assert len(last.fields["C"]) == 5
    assert last.fields["M"]
    assert last.fields["C"].isalnum()
    assert database in stage.played
    assert stage.weir.metric("pgweir_server_connections", state="idle", database=database) == 0


def test_a_server_that_keeps_to_scram_is_used(stage: Stage) -> None:
    """What the deviations above deviate from."""
    with stage.enter(scram_server()):
        pass


class Ending(Scripted):
    """A server whose connection ends when it has said so many bytes."""

    def __init__(self, server: Scripted, limit_bytes: int) -> None:
        super().__init__(server.socket, server.parameters)
        self._left_bytes = limit_bytes

    def send(self, octets: bytes) -> None:
        super().send(octets[: self._left_bytes])
        self._left_bytes -= len(octets)
        if self._left_bytes < 0:
            raise ConnectionAbortedError


def test_a_server_that_is_gone_at_any_byte_of_its_login_is_tried_again(stage: Stage) -> None:
    cuts = itertools.count()
    database = stage.play(lambda server: scram_server()(Ending(server, next(cuts))), PATIENT)
    with stage.client_of(database):
        whole = next(cuts) - 1
    assert whole > len(SASL) + len(login())


def test_a_server_that_is_gone_at_any_byte_of_a_reply_costs_one_error(stage: Stage) -> None:
    whole = reply("x" * 10, "y" * 10)
    for cut_at in range(len(whole)):

        def end(server: Scripted, _asked: Message, cut_at: int = cut_at) -> None:
            server.send(whole[:cut_at])
            server.socket.close()

        with stage.enter(once(end)) as client:
            replies = client.ask("SELECT")
            assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
            assert client.value("SELECT") == "honest"


def once(script: Callable[[Scripted, Message], None]) -> Script:
    """A server that misbehaves on its first connection and is honest on the others."""
    met: list[int] = []

    def play(server: Scripted) -> None:
        server.log_in()
        met.append(1)
        honest = len(met) > 1
        while (asked := server.read()) is not None:
            if asked.kind == b"X":
                return
            if honest or asked.body.startswith((b"SET", b"RESET", b"ROLLBACK")):
                if asked.kind == b"Q":
                    server.answer("honest")
                elif asked.kind == b"S":
                    server.send(ready())
            elif asked.kind in (b"Q", b"S"):
                script(server, asked)

    return play


def replies_with(octets: bytes) -> Script:
    return once(lambda server, _asked: server.send(octets))


HEAD = row_description("token")

# What the server says to `SELECT`; "lie" must not be seen, and another server is used afterwards.
BAD_REPLIES: dict[str, bytes] = {
    "unknown_kind": HEAD + message(b"@", b"lie"),
    "login_message": HEAD + AUTH_OK,
    "key_message": HEAD + message(b"K", struct.pack("!ii", 1, 2)),
    "parse_complete": HEAD + message(b"1"),
    "bind_complete": message(b"2") + reply("lie"),
    "close_complete": message(b"3") + reply("lie"),
    "parameter_description": message(b"t", b"\0\0") + reply("lie"),
    "portal_suspended": HEAD + message(b"s"),
    "no_data": message(b"n") + reply("lie"),
    "function_result": message(b"V", b"\xff\xff\xff\xff"),
    "negotiation": message(b"v", struct.pack("!ii", 196608, 0)),
    "length_0": HEAD + b"C" + struct.pack("!i", 0),
    "length_3": HEAD + b"D" + struct.pack("!i", 3),
    "length_negative": HEAD + b"D" + struct.pack("!i", -1),
    "length_most": HEAD + b"D" + struct.pack("!i", 2**31 - 1),
    "overlong_tag": HEAD + b"C" + struct.pack("!i", 1 << 20),
    "overlong_error": HEAD + b"E" + struct.pack("!i", 1 << 29),
    "overlong_ready": HEAD + b"Z" + struct.pack("!i", 1 << 20),
    "tag_without_nul": HEAD + message(b"C", b"SELECT 1"),
    "empty_tag": HEAD + message(b"C"),
    "ready_with_unknown_status": HEAD + ready(b"x"),
    "ready_without_status": HEAD + message(b"Z"),
    "ready_too_long": HEAD + message(b"Z", b"II"),
    "malformed_parameter": HEAD + message(b"S", b"x"),
    "client_message": HEAD + message(b"Q", b"SELECT 1\0"),
}


@pytest.mark.parametrize("said", BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
def test_a_reply_that_breaks_the_protocol_ends_in_an_error_and_another_server(
    stage: Stage, said: bytes
) -> None:
    before = stage.weir.metric("pgweir_protocol_errors_total", peer="server")
    with stage.enter(replies_with(said)) as client:
        replies = client.ask("SELECT")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert [each for each in replies if each.kind == b"D"] == []
        assert client.value("SELECT") == "honest"
    assert stage.weir.metric("pgweir_protocol_errors_total", peer="server") == before + 1


# Behind a whole and honest reply: the client has its answer, the server is not used again.
AFTERWARDS: dict[str, bytes] = {
    "second_ready": ready(),
    "second_reply": reply("lie"),
    "row": row("lie"),
    "half_a_row": row("lie")[:7],
    "row_description": HEAD,
    "tag": complete("SELECT 1"),
    "error": message(b"E", b"SERROR\0VERROR\0C22000\0Mlie\0\0"),
    "fatal_error": message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mlie\0\0"),
    "copy_in": message(b"G", b"\0\0\0"),
    "unknown_kind": message(b"@"),
    "auth": AUTH_OK,
    "parse_complete": message(b"1"),
    "length_0": b"D" + struct.pack("!i", 0),
}


@pytest.mark.parametrize("said", AFTERWARDS.values(), ids=AFTERWARDS.keys())
def test_bytes_behind_a_reply_are_seen_by_nobody(stage: Stage, said: bytes) -> None:
    database = stage.play(replies_with(reply("first") + said))
    with stage.client_of(database) as one, stage.client_of(database) as two:
        assert one.value("SELECT") == "first"
        assert two.value("SELECT") == "honest"


def test_a_row_that_nobody_described_is_for_the_driver_to_judge(stage: Stage) -> None:
    """It is a reply to its own question, from its own server."""
    with stage.enter(replies_with(row("bare") + complete("SELECT 1") + ready())) as client:
        assert [each.kind for each in client.ask("SELECT")] == [b"D", b"C", b"Z"]


EXTENDED = {
    "bind_before_parse": message(b"2") + message(b"1"),
    "two_parse_completes": message(b"1") * 2,
    "ready_before_the_rest": message(b"1") + ready(),
    "rows_before_bind": message(b"1") + row("lie"),
    "query_reply": reply("lie"),
    "row_description_nobody_asked_for": message(b"1") + message(b"2") + HEAD + row("lie"),
    "sync_twice": message(b"1") + message(b"2") + complete("SELECT 0") + ready() + ready(),
}


@pytest.mark.parametrize("said", EXTENDED.values(), ids=EXTENDED.keys())
def test_extended_replies_out_of_order_show_nobody_a_lie(stage: Stage, said: bytes) -> None:
    with stage.enter(replies_with(said)) as client:
        client.send(parse("", "SELECT") + bind("", "") + execute() + SYNC)
        replies = client.read_until(b"Z")
        assert [each for each in replies if each.kind == b"D"] == []
        assert client.value("SELECT") == "honest"


def test_a_server_that_dies_in_a_short_row_costs_one_error(stage: Stage) -> None:
    def die(server: Scripted, _asked: Message) -> None:
        server.send(HEAD + row("whole") + row("half")[:-2])
        server.socket.close()

    with stage.enter(once(die)) as client:
        replies = client.ask("SELECT")
        assert [each.kind for each in replies] == [b"T", b"D", b"E", b"Z"]
        assert client.value("SELECT") == "honest"


def test_a_server_that_dies_in_a_long_row_costs_the_connection_and_shows_no_whole_row(
    stage: Stage,
) -> None:
    def die(server: Scripted, _asked: Message) -> None:
        server.send(HEAD + row("x" * 100_000)[:-2])
        server.socket.close()

    with stage.enter(once(die)) as client:
        client.send(query("SELECT"))
        assert [each.kind for each in client.read_to_end()] == [b"T"]


def test_a_fatal_error_costs_one_error_even_when_the_server_stays(stage: Stage) -> None:
    said = HEAD + message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0")
    with stage.enter(replies_with(said)) as client:
        replies = client.ask("SELECT")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert client.value("SELECT") == "honest"


@pytest.mark.parametrize(
    "said",
    [b"", b"\0", b"\0\0", b"S", b"SERROR", b"SERROR\0\0", b"C\0M\0\0", b"\xff\xff\0\0"],
    ids=repr,
)
def test_an_error_without_its_fields_is_passed_on_and_its_server_used_again(
    stage: Stage, said: bytes
) -> None:
    with stage.enter(replies_with(message(b"E", said) + ready())) as client:
        replies = client.ask("SELECT")
        assert [(each.kind, each.body) for each in replies] == [(b"E", said), (b"Z", b"I")]
        assert client.ask("SELECT")[-1].kind == b"Z"


def test_a_flood_of_new_parameters_is_passed_on_in_bounded_memory(stage: Stage) -> None:
    def flood(server: Scripted, _asked: Message) -> None:
        for first in range(0, 100_000, 100):
            names = range(first, first + 100)
            server.send(b"".join(message(b"S", b"p%d\0%b\0" % (n, b"v" * 500)) for n in names))
        server.answer("after")

    with stage.enter(once(flood)) as client:
        before = resident_bytes(stage.weir.process.pid)
        replies = client.ask("SELECT")
        assert len([each for each in replies if each.kind == b"S"]) == 100_000
        assert resident_bytes(stage.weir.process.pid) - before < 8 << 20


@pytest.mark.parametrize(
    "said",
    [
        message(b"N", b"SNOTICE\0C00000\0M" + b"x" * 1000 + b"\0\0"),
        message(b"S", b"application_name\0" + b"x" * 1000 + b"\0"),
        message(b"A", struct.pack("!i", 1) + b"channel\0" + b"x" * 1000 + b"\0"),
    ],
    ids=["notices", "parameters", "notifications"],
)
def test_a_flood_from_an_idle_server_is_not_kept(stage: Stage, said: bytes) -> None:
    flooded = threading.Event()

    def flood(server: Scripted, _asked: Message) -> None:
        server.answer("first")
        for _ in range(100):
            server.send(said * 100)
        flooded.set()

    database = stage.play(once(flood))
    with stage.client_of(database) as one, stage.client_of(database) as two:
        before = resident_bytes(stage.weir.process.pid)
        assert one.value("SELECT") == "first"
        # Either it swallows all of it, or it has had enough of this server.
        stage.weir.wait_until(lambda: flooded.is_set() or not servers_of(stage, database))
        assert [each.kind for each in two.ask("SELECT")][-1:] == [b"Z"]
        assert [each.kind for each in one.ask("SELECT")][-1:] == [b"Z"]
        assert resident_bytes(stage.weir.process.pid) - before < 8 << 20


def servers_of(stage: Stage, database: str) -> float:
    return stage.weir.metric("pgweir_server_connections", database=database)


def test_parameters_that_a_server_makes_up_are_not_run_as_sql_on_the_next(
    stage: Stage,
) -> None:
    """A ParameterStatus travels to the next server in a SET: its value stays one literal."""
    value = "x'; DROP TABLE users; --\\"
    said = HEAD + message(b"S", f"TimeZone\0{value}\0".encode()) + row("x") + complete("SELECT 1")
    statements: list[str] = []
    met: list[int] = []

    def play(server: Scripted) -> None:
        server.log_in()
        met.append(1)
        first = len(met) == 1
        while (asked := server.read()) is not None:
            if asked.kind == b"Q":
                statements.append(asked.body[:-1].decode())
                server.send(said + ready() if first else reply("honest"))
                if first:
                    return

    database = stage.play(play)
    with stage.client_of(database) as client:
        client.ask("SELECT 1")
        stage.weir.wait_until(lambda: servers_of(stage, database) == 0)
        client.value("SELECT 2")
    assert "SET \"TimeZone\" TO E'x''; DROP TABLE users; --\\\\'; DISCARD PLANS" in statements


def test_a_flood_of_notices_reaches_the_client_in_bounded_memory(stage: Stage) -> None:
    notice = message(b"N", b"SNOTICE\0VNOTICE\0C00000\0M" + b"x" * 1000 + b"\0\0")

    def flood(server: Scripted, _asked: Message) -> None:
        for _ in range(200):
            server.send(notice * 100)
        server.answer("after")

    with stage.enter(once(flood)) as client:
        before = resident_bytes(stage.weir.process.pid)
        replies = client.ask("SELECT")
        assert len([each for each in replies if each.kind == b"N"]) == 20_000
        assert resident_bytes(stage.weir.process.pid) - before < 8 << 20


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 5, 7])
def test_replies_in_pieces_are_as_good_as_whole(
    wired: tuple[Wire, Pgweir], piece_bytes: int
) -> None:
    wire, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        whole = client.ask("SELECT 'x', 1, repeat('y', 300) FROM generate_series(1, 3)")
        wire.piece_bytes = piece_bytes
        pieces = client.ask("SELECT 'x', 1, repeat('y', 300) FROM generate_series(1, 3)")
        assert pieces == whole
        client.send(parse("s", "SELECT 'x'") + bind("", "s") + execute() + SYNC)
        assert [each.kind for each in client.read_until(b"Z")] == [b"1", b"2", b"D", b"C", b"Z"]
