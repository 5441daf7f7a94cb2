"""The fuzz targets under hypothesis and on what the corpus keeps, for every run of the suite."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import CORPUS
from tests.fuzz.targets import TARGETS, client_bytes, packets, server_bytes, typed_messages

# Those that are fed with frames, each by a test of its own.
FRAMED = {"packets", "typed_messages", "client_bytes", "server_bytes"}
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())

# Bytes that look like what the readers expect find more than noise does.
texts = st.lists(st.binary(max_size=8).map(lambda raw: raw.replace(b"\0", b"")), max_size=6)
bodies = st.one_of(
    st.binary(max_size=300),
    texts.map(lambda each: b"\0".join(each) + b"\0"),
    texts.map(lambda each: struct.pack("!i", 196608) + b"\0".join(each) + b"\0\0"),
    st.text("-c =\\ab\t\n'\"", max_size=40).map(str.encode),
)
frames = st.lists(
    st.tuples(
        st.sampled_from([b"", b"Q", b"p", b"R"]),
        st.one_of(st.integers(-5, 30), st.sampled_from([2**31 - 1, -(2**31), 10_001])),
        st.binary(max_size=30),
    ).map(lambda parts: parts[0] + struct.pack("!i", parts[1]) + parts[2]),
    max_size=4,
).map(b"".join)


def edited(name: str) -> st.SearchStrategy[bytes]:
    """What the corpus keeps for a target, with a few bytes changed."""
    kept = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    edits = st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 6), st.binary(max_size=6)), max_size=3
    )

    def edit(parts: tuple[bytes, list[tuple[int, int, bytes]]]) -> bytes:
        octets, changes = parts
        for at, removed, put in changes:
            octets = octets[:at] + put + octets[at + removed :]
        return octets

    return st.tuples(st.sampled_from(kept), edits).map(edit)


def messages_of(kinds: bytes, bodies_of: list[bytes]) -> st.SearchStrategy[bytes]:
    """Some messages of these kinds, a few with a body or a length that does not belong to them."""
    kind = st.sampled_from([kinds[at : at + 1] for at in range(len(kinds))])
    body = st.one_of(st.sampled_from(bodies_of), st.binary(max_size=20))
    whole = st.tuples(kind, body).map(
        lambda parts: parts[0] + struct.pack("!i", len(parts[1]) + 4) + parts[1]
    )
    lying = st.tuples(kind, st.integers(-3, 20)).map(
        lambda parts: parts[0] + struct.pack("!i", parts[1])
    )
    return st.lists(st.one_of(whole, whole, whole, lying), max_size=8).map(b"".join)


said_by_clients = messages_of(
    b"QPBDECFHSdcfX",
    [
        b"",
        b"\0",
        b"BEGIN\0",
        b"COMMIT\0",
        b"DISCARD ALL\0",
        b"SET TimeZone TO 'x'\0",
        b"SELECT set_config('a.b', 'c', false)\0",
        b"LISTEN a\0",
        b"CREATE TEMP TABLE t (a int)\0",
        b"SELECT pg_advisory_lock(1)\0",
        b"a\0SELECT 1\0\0\0",
        b"\0SELECT 1\0\0\0",
        b"\0a\0" + bytes(6),
        b"\0\0" + bytes(6),
        b"Sa\0",
        b"P\0",
        bytes(5),
    ],
)
said_by_servers = messages_of(
    b"123ACDEGHIKNRSTVWZcdnstv@",
    [
        b"",
        b"I",
        b"T",
        b"SELECT 1\0",
        b"TimeZone\0x\0",
        b"\0\0",
        b"\0\1\0\0\0\1x",
        b"SERROR\0C22000\0\0",
    ],
)


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_the_corpus_keeps_breaks_no_reader(kept: Path) -> None:
    TARGETS[kept.parent.name](kept.read_bytes())


@pytest.mark.parametrize("name", sorted(set(TARGETS) - FRAMED))
def test_no_bytes_break_a_reader(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.one_of(bodies, edited(name)))
    @example(b"")
    @example(b"\0")
    def check(octets: bytes) -> None:
        TARGETS[name](octets)

    check()


@settings(max_examples=60, deadline=None)
@given(frames)
@example(struct.pack("!i", 8) + b"abcd" + struct.pack("!i", 9) + b"abcde")
def test_packets_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    packets(octets)


@settings(max_examples=60, deadline=None)
@given(frames)
@example(b"Q" + struct.pack("!i", 4) + b"p" + struct.pack("!i", 6) + b"ab")
def test_messages_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    typed_messages(octets)


@settings(max_examples=150, deadline=None)
@given(st.one_of(said_by_clients, edited("client_bytes")))
def test_whatever_a_client_says_is_passed_on_in_whole_messages(octets: bytes) -> None:
    client_bytes(octets)


@settings(max_examples=150, deadline=None)
@given(st.one_of(said_by_servers, edited("server_bytes")))
def test_whatever_a_server_says_is_passed_on_in_whole_messages(octets: bytes) -> None:
    server_bytes(octets)


# As much of the same as a stranger may send before a login (a password message has 64 KiB); what
# took time or memory by the square of it would not end within the suite's limit for a test.
REPEATED = [
    b"\0",
    b"a\0",
    b",",
    b"a=",
    b"r=",
    b'"',
    b'"" ',
    b"\\",
    b" -c",
    b"\n",
    b"{",
    b"[*",
    b"=",
    b"\xff",
]


@pytest.mark.parametrize("octets", REPEATED, ids=repr)
@pytest.mark.parametrize("name", sorted(set(TARGETS) - FRAMED - {"configuration"}))
def test_much_of_the_same_is_read_in_bounded_memory(name: str, octets: bytes) -> None:
    whole = (octets * 65_536)[:65_536]
    tracemalloc.start()
    try:
        TARGETS[name](whole)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200 * len(whole)
