"""Logins that somebody else judges: what is said on the wire."""

import json

import pytest

from proxy.auth import AskedTheWay, BearerExchange, ClearPasswordExchange, PlainSecret, Signpost
from proxy.auth.delegated import BEARER_BODY
from proxy.errors import ClientError, PeerError

SIGNPOST = Signpost("https://issuer/.well-known/openid-configuration", "openid db")


def bearer() -> BearerExchange:
    return BearerExchange("ann", SIGNPOST)


def initial(data: bytes | None, mechanism: bytes = b"OAUTHBEARER") -> bytes:
    length = (-1 if data is None else len(data)).to_bytes(4, signed=True)
    return mechanism + b"\0" + length + (data or b"")


def first(token: str) -> bytes:
    return b"n,,\x01auth=" + (f"Bearer {token}".encode() if token else b"") + b"\x01\x01"


def test_a_password_becomes_the_question_and_its_verdict_the_end() -> None:
    exchange = ClearPasswordExchange("LDAP", "ann")
    assert exchange.start() == (3).to_bytes(4)
    assert not exchange.receive(b"secret\0").done
    assert exchange.question == "secret"
    assert exchange.settle(None).done
    assert exchange.proof == PlainSecret("secret")


def test_a_password_that_is_refused_is_told_in_one_sentence() -> None:
    exchange = ClearPasswordExchange("LDAP", "ann")
    exchange.receive(b"secret\0")
    with pytest.raises(ClientError, match='LDAP authentication failed for user "ann"') as refused:
        exchange.settle("the directory has no such user")
    assert refused.value.sqlstate == "28000"
    assert exchange.refusal == "the directory has no such user"
    assert exchange.proof is None


def test_an_empty_password_is_no_question() -> None:
    exchange = ClearPasswordExchange("LDAP", "ann")
    with pytest.raises(ClientError):
        exchange.receive(b"\0")
    assert exchange.question is None


def test_a_good_token_lets_in() -> None:
    exchange = bearer()
    assert exchange.start() == BEARER_BODY
    exchange.receive(initial(first("a.b.c")))
    assert exchange.question == "a.b.c"
    reply = exchange.settle(None)
    assert reply.done and reply.send == (bytes(4),)


def test_a_token_may_come_in_a_message_of_its_own() -> None:
    exchange = bearer()
    assert exchange.receive(initial(None)).send == ((11).to_bytes(4),)
    exchange.receive(first("a.b.c"))
    assert exchange.question == "a.b.c"


@pytest.mark.parametrize(
    "data",
    [b"n,,\x01auth=\x01\x01", b"y,,\x01host=h\x01port=1\x01auth=\x01\x01"],
)
def test_without_a_token_the_client_is_told_where_to_get_one(data: bytes) -> None:
    exchange = bearer()
    reply = exchange.receive(initial(data))
    assert exchange.question is None
    assert reply.send[0][:4] == (11).to_bytes(4)
    assert json.loads(reply.send[0][4:]) == {
        "status": "invalid_token",
        "openid-configuration": "https://issuer/.well-known/openid-configuration",
        "scope": "openid db",
    }
    with pytest.raises(AskedTheWay, match='OAuth bearer authentication failed for user "ann"'):
        exchange.receive(b"\x01")
    assert not exchange.done


def test_a_refused_token_ends_after_the_clients_farewell() -> None:
    exchange = bearer()
    exchange.receive(initial(first("a.b.c")))
    assert exchange.settle("it has expired").send[0][4:].startswith(b"{")
    with pytest.raises(ClientError) as refused:
        exchange.receive(b"\x01")
    assert refused.value.sqlstate == "28000"
    assert not isinstance(refused.value, AskedTheWay)
    assert exchange.refusal == "it has expired"


def test_a_client_that_goes_on_after_the_refusal_is_refused_for_that() -> None:
    exchange = bearer()
    exchange.receive(initial(first("a.b.c")))
    exchange.settle("it has expired")
    with pytest.raises(PeerError):
        exchange.receive(first("d.e.f"))


@pytest.mark.parametrize("value", [b"Basic abc", b"Bearer", b"Bearer a b", b"Bearer \x7e{}"])
def test_what_is_no_bearer_token_is_not_asked_about(value: bytes) -> None:
    exchange = bearer()
    exchange.receive(initial(b"n,,\x01auth=" + value + b"\x01\x01"))
    assert exchange.question is None


def test_the_scheme_is_written_in_any_case() -> None:
    exchange = bearer()
    exchange.receive(initial(b"n,,\x01auth=bEaReR a.b\x01\x01"))
    assert exchange.question == "a.b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer x",
        b"n,,\x01auth=Bearer x\x01",
        b"n,,\x01auth=Bearer x\x01\x01\x01",
        b"n,,\x01auth=Bearer x\x01\x01more",
        b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
        b"n,,\x01auth\x01\x01",
        b"n,,\x01=x\x01\x01",
        b"n,,\x01a1=x\x01auth=Bearer x\x01\x01",
        b"n,,\x01host=x\x01\x01",
        b"n,,\x01auth=Bearer x\x00\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,a=bob,\x01auth=Bearer x\x01\x01",
        b"p=tls-exporter,,\x01auth=Bearer x\x01\x01",
        b"auth=Bearer x\x01\x01",
    ],
)
def test_a_malformed_first_message_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        bearer().receive(initial(data))


def test_another_mechanism_is_refused() -> None:
    with pytest.raises(PeerError):
        bearer().receive(initial(first("x"), b"SCRAM-SHA-256"))
