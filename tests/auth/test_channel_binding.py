"""SCRAM logins that are bound to the server's certificate, and what somebody in between can do."""

import hashlib
from dataclasses import dataclass

import pytest
import scramp

from proxy.auth import Channel, DerivedKeys, PlainSecret, Roster, ServerLogin, Verifiers, begin
from proxy.auth.scram import BOUND_MECHANISM, MECHANISM
from proxy.errors import PeerError

OURS = hashlib.sha256(b"our certificate").digest()
THEIRS = hashlib.sha256(b"the certificate of somebody in between").digest()
PASSWORD = "correct horse"

BOTH = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
PLUS = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0"
PLAIN = b"\0\0\0\x0aSCRAM-SHA-256\0\0"
OK, CLEARTEXT, MD5 = b"\0\0\0\0", b"\0\0\0\3", b"\0\0\0\5salt"


@pytest.fixture
def roster(verifiers: Verifiers) -> Roster:
    made = Roster.from_texts({"app": PASSWORD})
    made.prepare(verifiers)
    return made


@dataclass(frozen=True)
class Talk:
    """How a login went. mechanism and flag: what the client selected and said of binding."""

    mechanism: bytes
    flag: bytes
    done: bool


def talk(
    roster: Roster,
    verifiers: Verifiers,
    shown: bytes | None,
    channel: Channel,
    strip: bool = False,
    user: str = "app",
) -> Talk:
    """Let our client side log in to our server side.

    shown: the endpoint of the server. strip: somebody in between takes PLUS out of the offer.
    """
    exchange = begin(
        "scram-sha-256", user, roster.lookup(user), verifiers=verifiers, endpoint=shown
    )
    login = ServerLogin(user, PlainSecret(PASSWORD), derived=DerivedKeys(), channel=channel)
    offer = exchange.start()
    initial = login.receive(PLAIN if strip else offer) or b""
    mechanism, _, rest = initial.partition(b"\0")
    reply = exchange.receive(initial)
    while not login.done:
        for body in reply.send:
            if (answer := login.receive(body)) is not None:
                reply = exchange.receive(answer)
    return Talk(mechanism, rest[4:].partition(b",")[0], exchange.done and login.done)


PREFER, REQUIRE, DISABLE = (
    Channel(True, OURS, "prefer"),
    Channel(True, OURS, "require"),
    Channel(True, OURS, "disable"),
)
BINDING = b"p=tls-server-end-point"

# What the server has, what the client sees and wants -> mechanism and flag.
AGREED = [
    (OURS, PREFER, BOUND_MECHANISM, BINDING),
    (OURS, REQUIRE, BOUND_MECHANISM, BINDING),
    (OURS, DISABLE, MECHANISM, b"n"),
    # A certificate whose signature has no hash, seen by the client alone.
    (OURS, Channel(True, None), MECHANISM, b"n"),
    (None, PREFER, MECHANISM, b"y"),
    (None, DISABLE, MECHANISM, b"n"),
    (None, Channel(), MECHANISM, b"n"),
]


@pytest.mark.parametrize(("shown", "channel", "mechanism", "flag"), AGREED)
def test_a_login_is_bound_where_both_can(
    roster: Roster,
    verifiers: Verifiers,
    shown: bytes | None,
    channel: Channel,
    mechanism: bytes,
    flag: bytes,
) -> None:
    assert talk(roster, verifiers, shown, channel) == Talk(mechanism, flag, True)


def test_a_login_passed_on_by_somebody_in_between_is_refused(
    roster: Roster, verifiers: Verifiers
) -> None:
    with pytest.raises(PeerError, match="another certificate") as caught:
        talk(roster, verifiers, OURS, Channel(True, THEIRS))
    assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize("user", ["app", "ghost"])
def test_an_offer_made_smaller_on_the_way_is_noticed(
    roster: Roster, verifiers: Verifiers, user: str
) -> None:
    with pytest.raises(PeerError, match="taken it out of the offer") as caught:
        talk(roster, verifiers, OURS, PREFER, strip=True, user=user)
    assert caught.value.sqlstate == "28000"


def test_plus_without_binding_is_refused(roster: Roster, verifiers: Verifiers) -> None:
    for flag in (b"n", b"y"):
        exchange = begin(
            "scram-sha-256", "app", roster.lookup("app"), verifiers=verifiers, endpoint=OURS
        )
        first = flag + b",,n=,r=abc"
        with pytest.raises(PeerError, match="sent no channel binding"):
            exchange.receive(BOUND_MECHANISM + b"\0" + len(first).to_bytes(4) + first)


def test_plus_may_come_in_two_messages(roster: Roster, verifiers: Verifiers) -> None:
    exchange = begin(
        "scram-sha-256", "app", roster.lookup("app"), verifiers=verifiers, endpoint=OURS
    )
    login = ServerLogin("app", PlainSecret(PASSWORD), derived=DerivedKeys(), channel=PREFER)
    initial = login.receive(exchange.start()) or b""
    head = len(BOUND_MECHANISM) + 1
    exchange.receive(initial[:head] + b"\xff\xff\xff\xff")
    final = login.receive(exchange.receive(initial[head + 4 :]).send[0]) or b""
    assert exchange.receive(final).done


def test_another_implementation_binds_to_us(roster: Roster, verifiers: Verifiers) -> None:
    """scramp's client, which hashes what it is given."""
    exchange = begin(
        "scram-sha-256", "app", roster.lookup("app"), verifiers=verifiers, endpoint=OURS
    )
    assert exchange.start() == BOTH
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], "app", PASSWORD, channel_binding=("tls-server-end-point", OURS)
    )
    first = client.get_client_first().encode()
    reply = exchange.receive(BOUND_MECHANISM + b"\0" + len(first).to_bytes(4) + first)
    client.set_server_first(reply.send[0][4:].decode())
    reply = exchange.receive(client.get_client_final().encode())
    client.set_server_final(reply.send[0][4:].decode())
    assert exchange.done


@pytest.mark.parametrize("asked", [OK, CLEARTEXT, MD5, PLAIN])
def test_where_binding_is_required_nothing_else_will_do(asked: bytes) -> None:
    login = ServerLogin(
        "app", PlainSecret(PASSWORD), derived=DerivedKeys(), allow_cleartext=True, channel=REQUIRE
    )
    with pytest.raises(PeerError, match="channel_binding is require") as caught:
        login.receive(asked)
    assert (caught.value.sqlstate, login.done) == ("28000", False)


@pytest.mark.parametrize("channel", [Channel(True, None, "require"), Channel(binding="require")])
def test_where_binding_is_required_and_cannot_be_there_is_no_login(channel: Channel) -> None:
    login = ServerLogin("app", PlainSecret(PASSWORD), derived=DerivedKeys(), channel=channel)
    with pytest.raises(PeerError):
        login.receive(BOTH)


def test_plus_offered_without_tls_is_refused() -> None:
    """Who offers it has TLS: somebody in between has not passed it on."""
    login = ServerLogin("app", PlainSecret(PASSWORD), derived=DerivedKeys())
    with pytest.raises(PeerError, match="without TLS") as caught:
        login.receive(BOTH)
    assert caught.value.sqlstate == "28000"


def test_plus_alone_is_no_offer_where_we_cannot_bind() -> None:
    login = ServerLogin(
        "app", PlainSecret(PASSWORD), derived=DerivedKeys(), channel=Channel(True, None)
    )
    with pytest.raises(PeerError, match="no SASL mechanism we know"):
        login.receive(PLUS)
