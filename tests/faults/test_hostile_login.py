"""The login, from a client that keeps to no rule: every message out of its turn, swollen or cut."""

import struct
from collections.abc import Iterator

import pytest

from tests.faults.raw_client import (
    PROTOCOL_3_0,
    SYNC,
    TERMINATE,
    Message,
    RawClient,
    bind,
    message,
    packet,
    parse,
    prove,
    query,
    startup,
)
from tests.fixtures.pgweir import Pgweir, resident_bytes
from tests.fixtures.postgres import APP, DATABASE

GREETING = startup(user=APP.name, database=DATABASE)
NONCE = b"a-nonce-of-the-client"
AUTHENTICATION_OK = message(b"R", struct.pack("!i", 0))


@pytest.fixture
def bystander(pgweir: Pgweir) -> Iterator[RawClient]:
    """A client who was there before, and is served as before at the end."""
    with RawClient(pgweir.port) as client:
        log_in(client)
        yield client
        assert client.value("SELECT 'after'") == "after"


def initial_response(text: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    return message(b"p", mechanism + b"\0" + struct.pack("!i", len(text)) + text)


FIRST = initial_response(b"n,,n=,r=" + NONCE)


def log_in(client: RawClient) -> bytes:
    """Log in with the right password; what was sent for it."""
    return prove(client, GREETING, APP.password, NONCE)


def refused(client: RawClient) -> str:
    """The SQLSTATE the client is sent away with; it is sent away, and was never let in."""
    seen: list[Message] = client.read_to_end()
    assert AUTHENTICATION_OK[5:] not in [each.body for each in seen if each.kind == b"R"]
    assert [each.kind for each in seen if each.kind in (b"Z", b"K", b"S")] == []
    errors = [each.fields["C"] for each in seen if each.kind == b"E"]
    assert len(errors) == 1, seen
    return errors[0]


# Where the client is asked to choose a mechanism of SASL.
INSTEAD_OF_FIRST: dict[str, tuple[bytes, str]] = {
    "query": (query("SELECT 1"), "08P01"),
    "parse": (parse("", "SELECT 1"), "08P01"),
    "bind": (bind("", ""), "08P01"),
    "sync": (SYNC, "08P01"),
    "copy_data": (message(b"d", b"x"), "08P01"),
    "servers_kind": (AUTHENTICATION_OK, "08P01"),
    "length_0": (b"p" + struct.pack("!i", 0), "08P01"),
    "length_3": (b"p" + struct.pack("!i", 3), "08P01"),
    "length_negative": (b"p" + struct.pack("!i", -1), "08P01"),
    "length_most": (b"p" + struct.pack("!i", 2**31 - 1), "08P01"),
    "length_most_negative": (b"p" + struct.pack("!i", -(2**31)), "08P01"),
    "length_over_limit": (b"p" + struct.pack("!i", 65_536), "08P01"),
    "empty": (message(b"p"), "08P01"),
    "password_in_clear": (message(b"p", APP.password.encode() + b"\0"), "08P01"),
    "md5_answer": (message(b"p", b"md5" + b"0" * 32 + b"\0"), "08P01"),
    "mechanism_without_end": (message(b"p", b"SCRAM-SHA-256"), "08P01"),
    "another_mechanism": (initial_response(b"n,,n=,r=x", b"SCRAM-SHA-1"), "08P01"),
    "response_shorter_than_said": (
        message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 2**31 - 1) + b"n,,n=,r=x"),
        "08P01",
    ),
    "response_longer_than_said": (
        message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 3) + b"n,,n=,r=x"),
        "08P01",
    ),
    "response_of_negative_length": (
        message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", -2)),
        "08P01",
    ),
    "no_length": (message(b"p", b"SCRAM-SHA-256\0"), "08P01"),
    "empty_response": (initial_response(b""), "08P01"),
    "empty_nonce": (initial_response(b"n,,n=,r="), "08P01"),
    "huge_nonce": (initial_response(b"n,,n=,r=" + b"x" * 60_000), "08P01"),
    "commas": (initial_response(b"," * 60_000), "08P01"),
    "nul": (initial_response(b"n,,n=,r=a\0b"), "08P01"),
    "another_identity": (initial_response(b"n,a=admin,n=,r=x"), "0A000"),
    "mandatory_extension": (initial_response(b"n,,m=x,n=,r=x"), "0A000"),
    "proof_before_the_challenge": (
        message(b"p", b"c=biws,r=" + NONCE + b",p=" + b"A" * 43 + b"="),
        "08P01",
    ),
}


@pytest.mark.parametrize("case", INSTEAD_OF_FIRST)
def test_what_is_no_beginning_of_scram_is_refused(
    pgweir: Pgweir, bystander: RawClient, case: str
) -> None:
    sent, sqlstate = INSTEAD_OF_FIRST[case]
    with RawClient(pgweir.port) as stranger:
        stranger.send(GREETING)
        stranger.read_until(b"R")
        stranger.send(sent)
        assert refused(stranger) == sqlstate


# Where the client has to prove that it knows the password.
INSTEAD_OF_PROOF: dict[str, tuple[bytes, str]] = {
    "query": (query("SELECT 1"), "08P01"),
    "first_again": (FIRST, "08P01"),
    "empty": (message(b"p"), "08P01"),
    "length_over_limit": (b"p" + struct.pack("!i", 65_536), "08P01"),
    "no_proof": (message(b"p", b"c=biws,r=" + NONCE), "08P01"),
    "short_proof": (message(b"p", b"c=biws,r=%b,p=QUJD"), "08P01"),
    "proof_not_base64": (message(b"p", b"c=biws,r=%b,p=!!!!"), "08P01"),
    "nonce_of_the_client_alone": (
        message(b"p", b"c=biws,r=" + NONCE + b",p=" + b"A" * 43 + b"="),
        "08P01",
    ),
    "another_binding": (message(b"p", b"c=eSws,r=%b,p=" + b"A" * 43 + b"="), "08P01"),
    "wrong_proof": (message(b"p", b"c=biws,r=%b,p=" + b"A" * 43 + b"="), "28P01"),
}


@pytest.mark.parametrize("case", INSTEAD_OF_PROOF)
def test_what_is_no_proof_is_refused(pgweir: Pgweir, bystander: RawClient, case: str) -> None:
    sent, sqlstate = INSTEAD_OF_PROOF[case]
    with RawClient(pgweir.port) as stranger:
        stranger.send(GREETING + FIRST)
        stranger.read_until(b"R")
        (challenge,) = stranger.read_until(b"R")
        nonce = challenge.body[4:].split(b",")[0].removeprefix(b"r=")
        if b"%b" in sent:
            sent = message(sent[:1], sent[5:].replace(b"%b", nonce))
        stranger.send(sent)
        assert refused(stranger) == sqlstate


def test_there_is_no_second_try_on_a_connection(pgweir: Pgweir, bystander: RawClient) -> None:
    wrong = message(b"p", b"c=biws,r=x,p=" + b"A" * 43 + b"=")
    with RawClient(pgweir.port) as stranger:
        stranger.send(GREETING + FIRST + wrong * 100)
        assert refused(stranger) == "08P01"


def test_a_goodbye_in_the_middle_of_the_login_is_no_error(
    pgweir: Pgweir, bystander: RawClient
) -> None:
    with RawClient(pgweir.port) as client:
        client.send(GREETING + TERMINATE)
        seen = client.read_to_end()
    assert b"Z" not in [each.kind for each in seen]


def test_a_login_cut_at_any_byte_leaves_nothing_behind(
    pgweir: Pgweir, bystander: RawClient
) -> None:
    with RawClient(pgweir.port) as client:
        whole = log_in(client)
    clients = pgweir.metric("pgweir_client_connections")
    for cut_at in range(len(GREETING), len(whole)):
        with RawClient(pgweir.port) as stranger:
            # The proof is that of another exchange: it does not matter where it is cut.
            stranger.send(whole[:cut_at])
    pgweir.wait_until(lambda: pgweir.metric("pgweir_client_connections") <= clients)


def test_a_login_byte_by_byte_is_as_good_as_whole(pgweir: Pgweir) -> None:
    class Slow(RawClient):
        def send(self, octets: bytes) -> None:
            for at in range(len(octets)):
                super().send(octets[at : at + 1])

    with Slow(pgweir.port) as client:
        log_in(client)
        assert client.value("SELECT 'in'") == "in"


LONG = "x" * 4900


def test_overlong_names_are_refused_as_any_others(pgweir: Pgweir, bystander: RawClient) -> None:
    """PostgreSQL cuts names at 63 bytes; a name must not become another by it."""
    line = len(pgweir.log)
    for user, database in ((LONG, LONG), (APP.name + LONG, DATABASE), ("\n" * 4900, DATABASE)):
        with RawClient(pgweir.port) as stranger:
            stranger.send(startup(user=user, database=database) + FIRST)
            stranger.read_until(b"R")
            stranger.read_until(b"R")
            stranger.send(message(b"p", b"c=biws,r=x,p=" + b"A" * 43 + b"="))
            assert refused(stranger) == "08P01"
    with RawClient(pgweir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE + LONG) + FIRST)
        client.read_until(b"R")
    assert max(map(len, pgweir.log[line:]), default=0) < 4096
    assert "xxxxxxxx" not in pgweir.http("/metrics")[1]


def test_as_many_parameters_as_a_startup_packet_holds_are_read_in_bounded_memory(
    pgweir: Pgweir, bystander: RawClient
) -> None:
    many = b"".join(b"a%d\0\0" % number for number in range(1500))
    greeting = packet(struct.pack("!i", PROTOCOL_3_0) + b"user\0app\0" + many + b"\0")
    before = resident_bytes(pgweir.process.pid)
    strangers = [RawClient(pgweir.port) for _ in range(50)]
    try:
        for each in strangers:
            each.send(greeting)
            each.read_until(b"R")
        assert resident_bytes(pgweir.process.pid) - before < 32 << 20
    finally:
        for each in strangers:
            each.close()
