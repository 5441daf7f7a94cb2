"""Whatever a peer sends, the room answers, refuses or names the fault; nothing else escapes it."""

import base64
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import (
    METHODS,
    DerivedKeys,
    PlainSecret,
    Roster,
    ServerLogin,
    Verifiers,
    begin,
)
from proxy.errors import ClientError, PeerError

PEERS_FAULT = (PeerError, ClientError)
PASSWORD = "correct horse"

VERIFIERS = Verifiers(b"a secret of the process, 32 byte")
ROSTER = Roster.from_texts({"app": PASSWORD, "hashed": "md5" + "0" * 32})
ROSTER.prepare(VERIFIERS)


def zeros(count: int) -> bytes:
    return bytes(count)


# Pieces of real messages, so that the fuzz gets behind the first check.
FRAGMENTS = st.sampled_from(
    [
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256-PLUS\0",
        b"\0",
        b"\0\0",
        b"\0\0\0\x20",
        b"\xff\xff\xff\xff",
        b"n,,",
        b"y,,",
        b"p=tls-server-end-point,,",
        b"n=",
        b"n=*,",
        b"r=",
        b"r=" + b"A" * 24,
        b"r=" + b"A" * 48,
        b",",
        b"s=QUJDREVGR0hJSktM",
        b",s=QUJD,",
        b"i=1",
        b"i=4096",
        b"c=biws,",
        b"p=" + base64.b64encode(bytes(32)),
        b"v=" + base64.b64encode(bytes(32)),
        b"e=other-error",
        b"m=x,",
        PASSWORD.encode(),
        b"md5" + b"0" * 32,
    ]
)
BODIES = st.binary(max_size=80) | st.lists(FRAGMENTS | st.binary(max_size=4), max_size=10).map(
    b"".join
)
CODES = st.integers(0, 13).map(lambda code: code.to_bytes(4))


@settings(max_examples=600, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    user=st.sampled_from(["app", "hashed", "ghost"]),
    bodies=st.lists(BODIES, min_size=1, max_size=4),
)
def test_no_client_makes_an_exchange_fail_otherwise(
    method: str, user: str, bodies: list[bytes]
) -> None:
    exchange = begin(method, user, ROSTER.lookup(user), verifiers=VERIFIERS, random_bytes=zeros)
    with contextlib.suppress(*PEERS_FAULT):
        exchange.start()
        for body in bodies:
            reply = exchange.receive(body)
            assert reply.done == exchange.done


@settings(max_examples=600, deadline=None)
@given(bodies=st.lists(BODIES, min_size=1, max_size=4))
def test_no_stranger_gets_in_by_any_bytes(bodies: list[bytes]) -> None:
    exchange = begin("scram-sha-256", "ghost", None, verifiers=VERIFIERS, random_bytes=zeros)
    with contextlib.suppress(*PEERS_FAULT):
        for body in bodies:
            exchange.receive(body)
    assert not exchange.done


@settings(max_examples=600, deadline=None)
@given(
    asked=st.lists(st.tuples(CODES, BODIES).map(b"".join) | BODIES, min_size=1, max_size=4),
    begins_scram=st.booleans(),
)
def test_no_server_makes_a_login_fail_otherwise(asked: list[bytes], begins_scram: bool) -> None:
    login = ServerLogin(
        "app",
        PlainSecret(PASSWORD),
        derived=DerivedKeys(),
        random_bytes=zeros,
        allow_cleartext=True,
    )
    with contextlib.suppress(*PEERS_FAULT):
        if begins_scram:
            login.receive(b"\0\0\0\x0aSCRAM-SHA-256\0\0")
        for body in asked:
            login.receive(body)
    # It never knew the password, so once SCRAM began it cannot have come to an end.
    assert not (begins_scram and login.done)
