"""What is said to the console byte by byte, by those who may be there."""

import random
import socket
import struct

import pytest

from tests.fixtures.console import LOOKER, Console
from tests.fixtures.pgweir import Pgweir
from tests.live.conversation import (
    FLUSH,
    SYNC,
    TERMINATE,
    Wire,
    address_of,
    bind,
    close_portal,
    close_statement,
    describe_portal,
    describe_statement,
    errors_of,
    execute,
    fields_of,
    function_call,
    kinds_of,
    message,
    parse,
    query,
    rows_of,
    text,
)


def enter(weir: Pgweir) -> Wire:
    return Wire.connect(address_of(weir, "pgweir", LOOKER))


def test_a_query_of_several_statements_ends_with_the_first_error(manned: Pgweir) -> None:
    with enter(manned) as wire:
        assert kinds_of(wire.ask(query("SHOW VERSION; SHOW STATE"))) == "TDCTDDDCZ"
        assert kinds_of(wire.ask(query("SHOW VERSION; SHOW NONSENSE; SHOW STATE"))) == "TDCEZ"
        assert kinds_of(wire.ask(query(""))) == "IZ"
        assert kinds_of(wire.ask(query("SHOW HELP"))) == "NCZ"


def test_the_extended_protocol_says_what_it_should(manned: Pgweir) -> None:
    with enter(manned) as wire:
        heard = wire.ask(
            parse("SHOW STATE", "s")
            + describe_statement("s")
            + bind(name="s", portal="p")
            + describe_portal("p")
            + execute("p", 2)
            + execute("p", 2)
            + close_portal("p")
            + close_statement("s")
            + FLUSH
            + SYNC
        )
        assert kinds_of(heard) == "1tT2TDDsDC33Z"
        assert kinds_of(wire.ask(parse("") + bind() + describe_portal() + execute() + SYNC)) == (
            "12nIZ"
        )
        heard = wire.ask(parse("DISCARD ALL") + describe_statement() + bind() + execute() + SYNC)
        assert kinds_of(heard) == "1tn2CZ"


def test_after_an_error_all_is_passed_over_up_to_the_next_sync(manned: Pgweir) -> None:
    with enter(manned) as wire:
        heard = wire.ask(parse("PAUSE", "p") + bind(name="p") + execute() + SYNC)
        assert (kinds_of(heard), errors_of(heard)) == ("EZ", ["42501"])
        heard = wire.ask(bind(name="nowhere") + execute() + SYNC)
        assert errors_of(heard) == ["26000"]
        assert errors_of(wire.ask(describe_portal("nowhere") + SYNC)) == ["34000"]
        assert errors_of(wire.ask(execute("nowhere") + SYNC)) == ["34000"]
        assert errors_of(wire.ask(parse("SHOW LISTS; SHOW STATE") + SYNC)) == ["42601"]
        assert errors_of(wire.ask(parse("SHOW LISTS", "a") + parse("SHOW LISTS", "a") + SYNC)) == [
            "42P05"
        ]
        assert errors_of(wire.ask(parse("SHOW STATE") + bind(results=[7]) + SYNC)) == ["22023"]
        assert errors_of(wire.ask(parse("SHOW STATE") + bind(results=[0] * 3) + SYNC)) == ["08P01"]
        assert errors_of(wire.ask(parse("SHOW STATE") + bind("x") + SYNC)) == ["08P01"]
        assert errors_of(wire.ask(function_call(1))) == ["0A000"]
        assert kinds_of(wire.ask(query("SHOW STATE"))) == "TDDDCZ"


def test_statements_and_portals_are_bounded(manned: Pgweir) -> None:
    with enter(manned) as wire:
        many = b"".join(parse("SHOW STATE", f"s{number}") for number in range(101))
        assert errors_of(wire.ask(many + SYNC)) == ["54000"]
        many = b"".join(bind(name="s1", portal=f"p{number}") for number in range(101))
        assert errors_of(wire.ask(many + SYNC)) == ["54000"]
        # A transaction is over, and so are its portals.
        assert kinds_of(wire.ask(bind(name="s1", portal="p") + SYNC)) == "2Z"


def test_leaving_politely_ends_the_connection(manned: Pgweir) -> None:
    with enter(manned) as wire:
        wire.send(TERMINATE)
        assert wire.until_end() == []


MALFORMED = {
    "a query without its terminator": message(b"Q", b"SHOW STATE"),
    "a query with something behind it": message(b"Q", b"SHOW STATE\0x"),
    "no query": message(b"Q"),
    "a parse that is cut": message(b"P", b"a\0"),
    "a parse with too many types": message(b"P", b"\0\0" + struct.pack("!H", 65535)),
    "a bind that is cut": message(b"B", b"\0\0\0\1"),
    "a bind with too many formats": message(b"B", b"\0\0" + struct.pack("!H", 9000)),
    "a describe of nothing": message(b"D"),
    "a describe of something else": message(b"D", b"X\0"),
    "an execute without a number": message(b"E", b"\0"),
    "a close of something else": message(b"C", b"X\0"),
    "another message": message(b"y", b"abc"),
    "a password": message(b"p", text("secret")),
    "a length below its own": b"Q" + struct.pack("!i", 3),
    "a negative length": b"Q" + struct.pack("!i", -1),
    "a length beyond measure": b"Q" + struct.pack("!i", 1 << 30),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_ends_the_connection_with_its_reason(
    manned: Pgweir, octets: bytes
) -> None:
    with enter(manned) as wire:
        wire.send(octets)
        heard = wire.until_end()
        assert errors_of(heard) == ["08P01"]
        assert fields_of(heard[-1])["S"] == "FATAL"


def test_noise_never_breaks_the_console(manned: Pgweir) -> None:
    """Any bytes from somebody who is logged in: an answer, or the end, and no bug."""
    noise = random.Random(7)
    pieces = [
        parse("SHOW STATE", "a"),
        bind(name="a"),
        execute(),
        SYNC,
        FLUSH,
        query("SHOW LISTS"),
        query("SHOW \udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
        describe_statement("a"),
        close_statement("a"),
        *MALFORMED.values(),
    ]
    for _ in range(40):
        octets = bytearray(b"".join(noise.choices(pieces, k=6)))
        for _ in range(noise.randrange(4)):
            octets[noise.randrange(len(octets))] = noise.randrange(256)
        with enter(manned) as wire:
            wire.send(bytes(octets) + TERMINATE)
            wire.sock.shutdown(socket.SHUT_WR)
            wire.until_end()
    console = Console(manned)
    assert console.show("LISTS")
    console.close()
    assert not [line for line in manned.log if "console connection failed" in line]


def test_one_who_does_not_read_is_not_written_to_for_ever(manned: Pgweir) -> None:
    with enter(manned) as wire:
        for _ in range(300):
            wire.send(query("SHOW CONFIG") * 20)
        console = Console(manned)
        held = max(row["send_avail"] for row in console.show("SOCKETS", database="pgweir"))
        assert held < 2_000_000
        console.close()


def test_names_that_are_no_utf8_are_shown_all_the_same(manned: Pgweir) -> None:
    with enter(manned) as wire:
        heard = wire.ask(message(b"Q", b"SHOW \xff\xfe\0"))
        assert errors_of(heard) == ["42601"]
        assert rows_of(wire.ask(query("SHOW VERSION")))
