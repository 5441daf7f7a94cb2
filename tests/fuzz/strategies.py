"""Bytes that look like what each reader expects: they find more than noise does."""

import struct

from hypothesis import strategies as st

from tests.fuzz import CORPUS

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


def octets_for(name: str) -> st.SearchStrategy[bytes]:
    """What one target is given."""
    if name in _LIKE:
        return st.one_of(_LIKE[name], edited(name))
    return st.one_of(bodies, edited(name))


_LIKE = {
    "packets": frames,
    "typed_messages": frames,
    "client_bytes": said_by_clients,
    "server_bytes": said_by_servers,
}
