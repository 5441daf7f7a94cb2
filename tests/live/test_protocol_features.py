"""The start of a connection, and what follows a client from one server connection to the next."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    SYNC,
    Address,
    Message,
    Refused,
    Wire,
    address_of,
    errors_of,
    fields_of,
    parse,
    query,
    request,
    rows_of,
    run,
    startup,
)

SLEEPERS = """
SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'
"""
EVERYWHERE = ("transaction", "session")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@contextlib.contextmanager
def before(node: Postgres, folder: Path) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE, "pool_size": 1}
    databases = {
        "transaction": each,
        "session": {**each, "pool_mode": "session"},
        "two": {**each, "pool_size": 2},
        DATABASE: each,
    }
    listen = {"unix_socket_dir": str(folder)}
    with running(configuration(node, databases=databases, listen=listen), folder) as weir:
        yield weir


@pytest.fixture(scope="module")
def weir(pg18: Postgres, folder: Path) -> Iterator[Pgweir]:
    with before(pg18, folder) as weir:
        yield weir


@pytest.fixture(scope="module")
def weir16(pg16: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with before(pg16, tmp_path_factory.mktemp("features16")) as weir:
        yield weir


def greet(weir: Pgweir, version: int, **parameters: str) -> Wire:
    """A startup packet, and nothing more."""
    wire = Wire.dial(weir.host, weir.port)
    wire.send(startup({"user": APP.name, "database": DATABASE, **parameters}, version))
    return wire


def negotiated(heard: Message) -> tuple[int, list[bytes]]:
    """What a NegotiateProtocolVersion says."""
    assert heard.kind == b"v", heard
    newest, count = struct.unpack_from("!iI", heard.body)
    names = heard.body[8:].split(b"\0")[:-1]
    assert len(names) == count
    return newest, names


# -- versions


def test_version_3_0_has_a_cancel_key_of_four_bytes(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir), PROTOCOL_3_0) as wire:
        assert len(wire.key) == 4


def test_version_3_2_has_a_long_cancel_key(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir), PROTOCOL_3_2) as wire:
        assert len(wire.key) == 32
        assert not [each for each in wire.welcome if each.kind == b"v"]


@pytest.mark.parametrize("minor", [3, 9999, 65535])
def test_a_newer_minor_version_is_negotiated_down_to_3_2(weir: Pgweir, minor: int) -> None:
    with Wire.connect(address_of(weir), 3 << 16 | minor) as wire:
        (said,) = [each for each in wire.welcome if each.kind == b"v"]
        assert negotiated(said) == (PROTOCOL_3_2, [])
        assert len(wire.key) == 32
        assert wire.value("SELECT 1") == "1"


def test_postgresql_18_negotiates_the_same(weir: Pgweir, pg18: Postgres) -> None:
    said = []
    for place in (weir, pg18):
        with Wire.connect(
            address_of(place), 3 << 16 | 9999, **{"_pq_.one": "1", "_pq_.two": "2"}
        ) as wire:
            said.append([each for each in wire.welcome if each.kind == b"v"])
    assert said[0] == said[1]


def test_an_unknown_protocol_option_is_named_and_ignored(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir), PROTOCOL_3_0, **{"_pq_.x": "y"}) as wire:
        (said,) = [each for each in wire.welcome if each.kind == b"v"]
        assert negotiated(said) == (PROTOCOL_3_0, [b"_pq_.x"])
        assert wire.value("SELECT 1") == "1"


@pytest.mark.parametrize("version", [1 << 16, 2 << 16, 4 << 16, 0])
def test_another_major_version_is_refused(weir: Pgweir, pg18: Postgres, version: int) -> None:
    told = []
    for place in (weir, pg18):
        with Wire.dial(place.host, place.port) as wire:
            wire.send(startup({"user": APP.name}, version))
            octets = b""
            while more := wire.sock.recv(4096):
                octets += more
        told.append(octets)
    assert told[0][:1] == told[1][:1] == b"E"
    # To versions 1 and 2 PostgreSQL speaks as they did, in a text without fields.
    if version >= 3 << 16 or version == 0:
        fields = [fields_of(Message(b"E", each[5:])) for each in told]
        assert (fields[0]["S"], fields[0]["C"]) == (fields[1]["S"], fields[1]["C"])


def test_psycopg_can_ask_for_the_newest_protocol(weir: Pgweir) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip("libpq is older than 18")
    with psycopg.connect(weir.dsn() + "?max_protocol_version=latest") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("version", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("database", EVERYWHERE)
def test_a_cancel_key_cancels_what_runs(
    weir: Pgweir, pg18: Postgres, version: int, database: str
) -> None:
    with Wire.connect(address_of(weir, database), version) as wire:
        wire.ask(query("BEGIN"))
        wire.ask(query("SELECT 1"))
        wire.send(query("SELECT pg_sleep(60)"))
        # PostgreSQL forgets a cancel that comes before it has begun.
        weir.wait_until(lambda: pg18.value(SLEEPERS) == 1)
        with Wire.dial(weir.host, weir.port) as canceller:
            canceller.send(request(CANCEL_REQUEST, struct.pack("!I", wire.pid) + wire.key))
            assert canceller.until_end() == []
        assert errors_of(wire.until_ready()) == ["57014"]
        wire.ask(query("ROLLBACK"))
        assert wire.value("SELECT 'goes on'") == "goes on"


@pytest.mark.parametrize("key", [b"", b"\0", b"wrng", b"w" * 32, b"w" * 256])
def test_a_wrong_cancel_key_cancels_nothing(weir: Pgweir, key: bytes) -> None:
    with Wire.connect(address_of(weir), PROTOCOL_3_2) as wire:
        wire.send(query("SELECT pg_sleep(0.2), 'finished'"))
        with Wire.dial(weir.host, weir.port) as canceller:
            canceller.send(request(CANCEL_REQUEST, struct.pack("!I", wire.pid) + key))
            canceller.until_end()
        assert rows_of(wire.until_ready()) == [[b"", b"finished"]]


# -- requests before the login


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_encryption_that_there_is_not_is_answered_with_n(weir: Pgweir, code: int) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        wire.send(request(code))
        assert wire.receive_octets(1) == b"N"
        wire.send(startup({"user": APP.name, "database": DATABASE}))
        wire.log_in(address_of(weir))
        assert wire.value("SELECT 1") == "1"


def test_both_kinds_of_encryption_may_be_asked_for(weir: Pgweir) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        for code in (GSSENC_REQUEST, SSL_REQUEST):
            wire.send(request(code))
            assert wire.receive_octets(1) == b"N"
        wire.send(startup({"user": APP.name, "database": DATABASE}))
        wire.log_in(address_of(weir))
        assert wire.value("SELECT 1") == "1"


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_asking_twice_for_encryption_ends_the_connection(weir: Pgweir, code: int) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        wire.send(request(code))
        assert wire.receive_octets(1) == b"N"
        wire.send(request(code))
        heard = wire.until_end()
    assert [each.kind for each in heard] == [b"E"]


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_bytes_behind_a_request_for_encryption_are_refused(weir: Pgweir, code: int) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        wire.send(request(code) + startup({"user": APP.name, "database": DATABASE}))
        octets = b""
        with contextlib.suppress(ConnectionResetError):
            while more := wire.sock.recv(4096):
                octets += more
    assert b"R\0\0\0" not in octets


def test_a_startup_packet_that_comes_byte_by_byte_is_understood(weir: Pgweir) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        for octet in startup({"user": APP.name, "database": DATABASE}):
            wire.send(bytes([octet]))
        wire.log_in(address_of(weir))
        assert wire.value("SELECT 1") == "1"


def test_the_unix_socket_serves(weir: Pgweir, folder: Path) -> None:
    address = Address(str(folder), weir.port, APP.name, APP.password, DATABASE)
    with Wire.connect(address) as wire:
        assert wire.value("SELECT 'by file'") == "by file"


def test_psycopg_finds_the_unix_socket(weir: Pgweir, folder: Path) -> None:
    with psycopg.connect(
        host=str(folder), port=weir.port, user=APP.name, password=APP.password, dbname=DATABASE
    ) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_the_unix_socket_is_gone_after_the_proxy(pg18: Postgres, tmp_path: Path) -> None:
    with before(pg18, tmp_path) as weir:
        path = tmp_path / f".s.PGSQL.{weir.port}"
        assert path.is_socket()
    assert not path.exists()


# -- settings at the start


@pytest.mark.parametrize("database", EVERYWHERE)
@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("-c statement_timeout=1234", "statement_timeout", "1234ms"),
        ("-cstatement_timeout=1234", "statement_timeout", "1234ms"),
        ("--statement-timeout=1234", "statement_timeout", "1234ms"),
        ("-c work_mem=12345kB -c lock_timeout=99", "lock_timeout", "99ms"),
        ("-c search_path=one,two", "search_path", "one,two"),
        (r"-c search_path=one,\ two", "search_path", "one, two"),
        ("-c timezone=Asia/Tokyo", "TimeZone", "Asia/Tokyo"),
        ("-c application_name=by_option", "application_name", "by_option"),
        ("-c my.setting=x", "my.setting", "x"),
        ("-c geqo=off", "geqo", "off"),
    ],
)
def test_settings_in_options_are_in_force(
    weir: Pgweir, database: str, options: str, name: str, value: str
) -> None:
    with Wire.connect(address_of(weir, database), options=options) as wire:
        assert wire.value(f"SHOW {name}") == value


@pytest.mark.parametrize("database", EVERYWHERE)
@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("statement_timeout", "4321", "4321ms"),
        ("work_mem", "7MB", "7MB"),
        ("search_path", '"$user", public, pg_catalog', '"$user", public, pg_catalog'),
        ("extra_float_digits", "0", "0"),
        ("default_transaction_read_only", "on", "on"),
        ("default_transaction_isolation", "serializable", "serializable"),
        ("my.own", "what's \\ this", "what's \\ this"),
        ("DateStyle", "German", "German, DMY"),
        ("datestyle", "SQL, DMY", "SQL, DMY"),
        ("TimeZone", "Europe/Berlin", "Europe/Berlin"),
        ("client_encoding", "latin1", "LATIN1"),
        ("application_name", "me", "me"),
        ("IntervalStyle", "iso_8601", "iso_8601"),
        ("bytea_output", "escape", "escape"),
        ("plan_cache_mode", "force_custom_plan", "force_custom_plan"),
    ],
)
def test_settings_in_the_startup_packet_are_in_force(
    weir: Pgweir, database: str, name: str, value: str, shown: str
) -> None:
    with Wire.connect(address_of(weir, database), **{name: value}) as wire:
        assert wire.value(f"SHOW {name}") == shown
        wire.ask(query("BEGIN"))
        assert wire.value(f"SHOW {name}") == shown
        wire.ask(query("COMMIT"))
        assert wire.value(f"SHOW {name}") == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TimeZone", "Asia/Tokyo"),
        ("DateStyle", "German"),
        ("client_encoding", "LATIN1"),
        ("application_name", "näme"),
        ("application_name", "n" * 100),
        ("statement_timeout", "5s"),
        ("search_path", "a,b"),
    ],
)
def test_a_welcome_tells_of_settings_as_postgresql_does(
    weir: Pgweir, pg18: Postgres, name: str, value: str
) -> None:
    with (
        Wire.connect(address_of(pg18), **{name: value}) as direct,
        Wire.connect(address_of(weir), **{name: value}) as through,
    ):
        assert through.parameters == direct.parameters
        assert through.value(f"SHOW {name}") == direct.value(f"SHOW {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TimeZone", "Nowhere/Land"),
        ("client_encoding", "KLINGON"),
        ("no_such_setting", "1"),
        ("statement_timeout", "soon"),
        ("work_mem", "1"),
        ("shared_buffers", "1GB"),
        ("server_version", "19"),
        ("log_statement_stats", "on"),
        ("options", "-c no_such_setting=1"),
        ("options", "-c statement_timeout"),
        ("options", "--nonsense"),
        ("options", "nonsense"),
        ("session_authorization", "postgres"),
        ("role", "postgres"),
        ("is_superuser", "on"),
    ],
)
@pytest.mark.parametrize("database", EVERYWHERE)
def test_an_invalid_setting_is_refused_as_postgresql_does(
    weir: Pgweir, pg18: Postgres, database: str, name: str, value: str
) -> None:
    told = []
    for place in (address_of(pg18), address_of(weir, database)):
        try:
            with Wire.connect(place, **{name: value}) as wire:
                told.append({"accepted": str(wire.value("SELECT 1"))})
        except Refused as refused:
            fields = refused.fields
            told.append({key: fields[key] for key in "SCM" if key in fields})
    assert told[1].get("C") == told[0].get("C"), told
    assert told[1].get("S") == told[0].get("S"), told


def test_two_clients_with_different_settings_share_one_server_connection(weir: Pgweir) -> None:
    mine = {"TimeZone": "Asia/Tokyo", "statement_timeout": "1111", "search_path": "mine"}
    yours = {"TimeZone": "Europe/Berlin", "statement_timeout": "2222", "search_path": "yours"}
    with (
        Wire.connect(address_of(weir, "transaction"), **mine) as first,
        Wire.connect(address_of(weir, "transaction"), **yours) as second,
        Wire.connect(address_of(weir, "transaction")) as third,
    ):
        for _ in range(3):
            assert first.value("SHOW TimeZone") == "Asia/Tokyo"
            assert second.value("SHOW statement_timeout") == "2222ms"
            assert third.value("SHOW statement_timeout") == "0"
            assert first.value("SHOW statement_timeout") == "1111ms"
            assert second.value("SHOW search_path") == "yours"
            assert third.value("SHOW search_path") == '"$user", public'
            assert second.value("SHOW TimeZone") == "Europe/Berlin"
            assert first.value("SHOW search_path") == "mine"
        pids = {wire.value("SELECT pg_backend_pid()") for wire in (first, second, third)}
    assert len(pids) == 1


def test_settings_of_options_hold_in_the_extended_protocol_and_in_transactions(
    weir: Pgweir,
) -> None:
    with (
        Wire.connect(address_of(weir, "transaction"), options="-c statement_timeout=1111") as first,
        Wire.connect(
            address_of(weir, "transaction"), options="-c statement_timeout=2222"
        ) as second,
    ):
        for _ in range(3):
            for wire, value in ((first, b"1111ms"), (second, b"2222ms")):
                assert rows_of(wire.ask(run("SHOW statement_timeout"), SYNC)) == [[value]]
                heard = wire.ask(run("BEGIN"), run("SHOW statement_timeout"), run("COMMIT"), SYNC)
                assert rows_of(heard) == [[value]]


def test_a_statement_timeout_of_the_startup_packet_strikes(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "transaction"), options="-c statement_timeout=50") as wire:
        assert errors_of(wire.ask(query("SELECT pg_sleep(30)"))) == ["57014"]
        assert wire.value("SELECT 1") == "1"


def test_reset_goes_back_to_what_the_startup_packet_said(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "transaction"), TimeZone="Asia/Tokyo") as wire:
        wire.ask(query("SET TimeZone = 'UTC'"))
        assert wire.value("SHOW TimeZone") == "UTC"
        wire.ask(query("RESET TimeZone"))
        assert wire.value("SHOW TimeZone") == "Asia/Tokyo"


def test_discard_all_goes_back_to_what_the_startup_packet_said(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "transaction"), options="-c statement_timeout=777") as wire:
        wire.ask(query("DISCARD ALL"))
        assert wire.value("SHOW statement_timeout") == "777ms"


# -- settings that follow

FOLLOWING = [
    ("TimeZone", "Asia/Tokyo", "Europe/Berlin"),
    ("DateStyle", "German, DMY", "SQL, MDY"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("application_name", "first one", "other"),
    ("IntervalStyle", "iso_8601", "postgres_verbose"),
    ("standard_conforming_strings", "off", "on"),
    ("default_transaction_read_only", "on", "off"),
]


@pytest.mark.parametrize(("name", "mine", "yours"), FOLLOWING)
def test_a_reported_setting_follows_its_client(
    weir: Pgweir, name: str, mine: str, yours: str
) -> None:
    with (
        Wire.connect(address_of(weir, "transaction")) as first,
        Wire.connect(address_of(weir, "transaction")) as second,
        Wire.connect(address_of(weir, "transaction")) as third,
    ):
        default = third.value(f"SHOW {name}")
        first.ask(query(f"SET {name} = '{mine}'"))
        second.ask(query(f"SET {name} = '{yours}'"))
        for _ in range(3):
            assert first.value(f"SHOW {name}") == mine
            assert second.value(f"SHOW {name}") == yours
            assert third.value(f"SHOW {name}") == default


@pytest.mark.parametrize(("name", "mine", "yours"), FOLLOWING)
def test_a_reported_setting_follows_on_postgresql_16(
    weir16: Pgweir, name: str, mine: str, yours: str
) -> None:
    test_a_reported_setting_follows_its_client(weir16, name, mine, yours)


def test_search_path_follows_its_client_on_postgresql_18(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "transaction")) as first,
        Wire.connect(address_of(weir, "transaction")) as second,
        Wire.connect(address_of(weir, "transaction")) as third,
    ):
        first.ask(query("SET search_path = a, \"B c\", 'd''e', pg_catalog"))
        second.ask(query("SELECT set_config('search_path', '', false)"))
        for _ in range(3):
            assert first.value("SHOW search_path") == 'a, "B c", "d\'e", pg_catalog'
            assert second.value("SHOW search_path") == ""
            assert third.value("SHOW search_path") == '"$user", public'


def test_search_path_of_one_client_is_not_seen_by_the_next_on_postgresql_16(
    weir16: Pgweir,
) -> None:
    """As pg_dump leaves it: with set_config, whose tag is SELECT."""
    with (
        Wire.connect(address_of(weir16, "transaction")) as first,
        Wire.connect(address_of(weir16, "transaction")) as second,
    ):
        first.ask(query("SELECT pg_catalog.set_config('search_path', '', false)"))
        assert second.value("SHOW search_path") == '"$user", public'


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SET statement_timeout = 99", "statement_timeout"),
        ("SET SESSION work_mem = '99MB'", "work_mem"),
        ("SET my.own = 'theirs'", "my.own"),
        ("SELECT set_config('statement_timeout', '99', false)", "statement_timeout"),
        ("DO $$ BEGIN SET statement_timeout = 99; END $$", "statement_timeout"),
        ("SET default_transaction_read_only = on", "default_transaction_read_only"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only"),
        ("BEGIN; SET statement_timeout = 99; COMMIT", "statement_timeout"),
        ("SET LOCAL lock_timeout = 5; SET statement_timeout = 99", "statement_timeout"),
        ("SET ROLE pg_monitor", "role"),
    ],
)
def test_a_setting_is_not_seen_by_the_next_client(weir: Pgweir, sql: str, name: str) -> None:
    with (
        Wire.connect(address_of(weir, "transaction")) as first,
        Wire.connect(address_of(weir, "transaction")) as second,
    ):
        first.ask(query(sql))
        with contextlib.closing(Wire.connect(address_of(weir, "session"))) as fresh:
            default = rows_of(fresh.ask(query(f"SELECT current_setting('{name}', true)")))
        seen = rows_of(second.ask(query(f"SELECT current_setting('{name}', true)")))
    # A setting of no extension's is '' once it has been set, and null before.
    assert (seen[0][0] or b"") == (default[0][0] or b"")


def test_a_setting_undone_by_a_rollback_does_not_follow(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "transaction")) as first,
        Wire.connect(address_of(weir, "transaction")) as second,
    ):
        before = first.value("SHOW TimeZone")
        first.ask(query("BEGIN"))
        first.ask(query("SET TimeZone = 'Asia/Tokyo'"))
        first.ask(query("ROLLBACK"))
        assert second.value("SHOW TimeZone") == before
        assert first.value("SHOW TimeZone") == before


def test_a_local_setting_ends_with_its_transaction(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "transaction")) as wire:
        before = wire.value("SHOW TimeZone")
        wire.ask(query("BEGIN"))
        wire.ask(query("SET LOCAL TimeZone = 'Asia/Tokyo'"))
        assert wire.value("SHOW TimeZone") == "Asia/Tokyo"
        wire.ask(query("COMMIT"))
        assert wire.value("SHOW TimeZone") == before


def test_text_in_another_encoding_arrives_as_it_should(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "transaction"), client_encoding="LATIN1") as latin,
        Wire.connect(address_of(weir, "transaction")) as utf8,
    ):
        for _ in range(3):
            assert rows_of(latin.ask(query("SELECT chr(228)"))) == [[b"\xe4"]]
            assert rows_of(utf8.ask(query("SELECT chr(228)"))) == [["ä".encode()]]


def test_a_statement_prepared_under_one_search_path_is_planned_under_each_clients_own(
    weir: Pgweir, pg18: Postgres
) -> None:
    pg18.execute(
        "CREATE SCHEMA here; CREATE SCHEMA there; CREATE TABLE here.t AS SELECT 'here' AS v;"
        "CREATE TABLE there.t AS SELECT 'there' AS v; GRANT USAGE ON SCHEMA here, there TO PUBLIC;"
        "GRANT SELECT ON here.t, there.t TO PUBLIC"
    )
    try:
        with (
            Wire.connect(address_of(weir, "transaction"), search_path="here") as first,
            Wire.connect(address_of(weir, "transaction"), search_path="there") as second,
        ):
            for wire in (first, second):
                wire.ask(parse("SELECT v FROM t", "s"), SYNC)
            for _ in range(3):
                for wire, word in ((first, b"here"), (second, b"there")):
                    assert rows_of(wire.ask(run("SELECT v FROM t"), SYNC)) == [[word]]
    finally:
        pg18.execute("DROP SCHEMA here CASCADE; DROP SCHEMA there CASCADE")


# -- refusals


def test_no_user_in_the_startup_packet_is_refused(weir: Pgweir) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        wire.send(startup({"database": DATABASE}))
        assert errors_of(wire.until_end()) == ["28000"]


def test_an_unknown_database_is_refused(weir: Pgweir) -> None:
    with pytest.raises(Refused) as refused:
        Wire.connect(address_of(weir, "nowhere"))
    assert refused.value.fields["C"] == "3D000"


@pytest.mark.parametrize("length", [0, 3, 4, 7, 10_001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_startup_packet_of_impossible_length_ends_the_connection(
    weir: Pgweir, length: int
) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        wire.send(struct.pack("!I", length) + b"\0\3\0\0")
        with contextlib.suppress(ConnectionResetError):
            while wire.sock.recv(4096):
                pass


def test_a_startup_packet_without_its_terminator_is_refused(weir: Pgweir) -> None:
    with Wire.dial(weir.host, weir.port) as wire:
        body = struct.pack("!I", PROTOCOL_3_0) + b"user\0app"
        wire.send(struct.pack("!i", 4 + len(body)) + body)
        assert errors_of(wire.until_end()) == ["08P01"]


@pytest.mark.parametrize("kind", [b"\0", b"A", b"Z", b"p", b"q", b"\xff"])
def test_a_message_of_unknown_type_ends_the_connection(weir: Pgweir, kind: bytes) -> None:
    with Wire.connect(address_of(weir)) as wire:
        wire.send(kind + struct.pack("!i", 4))
        assert errors_of(wire.until_end()) == ["08P01"]
    with Wire.connect(address_of(weir)) as other:
        assert other.value("SELECT 1") == "1"


@pytest.mark.parametrize("length", [-1, 0, 3, 0x7FFFFFFF])
@pytest.mark.parametrize("kind", [b"Q", b"P", b"B", b"E", b"S", b"D", b"C", b"H", b"d", b"F", b"X"])
def test_a_message_of_impossible_length_ends_the_connection(
    weir: Pgweir, kind: bytes, length: int
) -> None:
    with Wire.connect(address_of(weir)) as wire:
        wire.send(kind + struct.pack("!i", length))
        assert errors_of(wire.until_end()) == ["08P01"]
