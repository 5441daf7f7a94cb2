"""A client's login, as a conversation: what is sent, what comes, how it ends."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import pytest

from proxy.auth import (
    METHODS,
    DerivedKeys,
    Exchange,
    Md5Secret,
    PlainSecret,
    Reply,
    Roster,
    ScramKeys,
    ScramVerifier,
    ServerLogin,
    Verifiers,
    begin,
    parse_secret,
)
from proxy.auth.keys import derive_keys
from proxy.auth.md5 import hash_password
from proxy.auth.server_login import Credential
from proxy.errors import ClientError, PeerError, ProxyBug

APP_PASSWORD = "correct horse"
OK = b"\0\0\0\0"
CLEARTEXT = b"\0\0\0\3"
SASL = b"\0\0\0\x0aSCRAM-SHA-256\0\0"


@dataclass(frozen=True)
class Outcome:
    """How a login ended: what was sent to each side, and the refusal if there was one."""

    exchange: Exchange
    login: ServerLogin
    to_client: tuple[bytes, ...]
    to_server: tuple[bytes, ...]
    refusal: ClientError | None

    @property
    def succeeded(self) -> bool:
        return self.exchange.done and self.login.done and self.refusal is None


Talk = Callable[..., Outcome]


@pytest.fixture
def roster(verifiers: Verifiers) -> Roster:
    """A user for each form a secret has, all with one password, and a user without."""
    salt = b"sixteen bytes!!!"
    users = {
        "plain": parse_secret(APP_PASSWORD),
        "hashed": hash_password(APP_PASSWORD, "hashed"),
        "verified": derive_keys(APP_PASSWORD, salt, 4096).verifier(salt, 4096),
        "empty": parse_secret(""),
    }
    made = Roster(users)
    made.prepare(verifiers)
    return made


@pytest.fixture
def talk(roster: Roster, verifiers: Verifiers, derived: DerivedKeys) -> Talk:
    """Let our client side log in to our server side, and tell how it went."""

    def run(method: str, user: str, credential: Credential) -> Outcome:
        exchange = begin(method, user, roster.lookup(user), verifiers=verifiers)
        login = ServerLogin(user, credential, derived=derived, allow_cleartext=True)
        to_client: list[bytes] = []
        to_server: list[bytes] = []
        refusal = None
        try:
            pending = [exchange.start()]
            while pending:
                body = pending.pop(0)
                to_client.append(body)
                answer = login.receive(body)
                if answer is not None:
                    to_server.append(answer)
                    pending += exchange.receive(answer).send
        except ClientError as refused:
            refusal = refused
        return Outcome(exchange, login, tuple(to_client), tuple(to_server), refusal)

    return run


def codes(bodies: tuple[bytes, ...]) -> list[int]:
    return [int.from_bytes(body[:4]) for body in bodies]


@pytest.mark.parametrize(
    ("method", "user", "asked"),
    [
        ("trust", "plain", [0]),
        ("trust", "hashed", [0]),
        ("trust", "verified", [0]),
        ("trust", "empty", [0]),
        ("password", "plain", [3, 0]),
        ("password", "hashed", [3, 0]),
        ("password", "verified", [3, 0]),
        ("md5", "plain", [5, 0]),
        ("md5", "hashed", [5, 0]),
        ("md5", "verified", [10, 11, 12, 0]),
        ("scram-sha-256", "plain", [10, 11, 12, 0]),
        ("scram-sha-256", "verified", [10, 11, 12, 0]),
    ],
)
def test_a_right_password_logs_in(talk: Talk, method: str, user: str, asked: list[int]) -> None:
    outcome = talk(method, user, PlainSecret(APP_PASSWORD))
    assert (outcome.succeeded, codes(outcome.to_client)) == (True, asked)


@pytest.mark.parametrize("password", ["wrong", APP_PASSWORD])
@pytest.mark.parametrize(
    ("method", "user"),
    [
        ("password", "ghost"),
        ("password", "empty"),
        ("md5", "ghost"),
        ("md5", "empty"),
        ("scram-sha-256", "ghost"),
        ("scram-sha-256", "empty"),
        ("scram-sha-256", "hashed"),
    ],
)
def test_who_cannot_log_in_cannot_with_any_password(
    talk: Talk, method: str, user: str, password: str
) -> None:
    outcome = talk(method, user, PlainSecret(password))
    assert (outcome.exchange.done, outcome.refusal is not None) == (False, True)


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
@pytest.mark.parametrize("user", ["plain", "hashed", "verified", "empty", "ghost", 'q"uote'])
def test_every_refusal_reads_the_same(talk: Talk, method: str, user: str) -> None:
    refusal = talk(method, user, PlainSecret("wrong")).refusal
    assert refusal is not None
    assert (refusal.sqlstate, refusal.message, refusal.detail, refusal.hint) == (
        "28P01",
        f'password authentication failed for user "{user}"',
        None,
        None,
    )


@pytest.mark.parametrize(
    ("user", "reason"),
    [("plain", "wrong password"), ("ghost", "no such user"), ("hashed", "log in this way")],
)
def test_the_reason_is_told_to_the_operator(talk: Talk, user: str, reason: str) -> None:
    assert reason in (talk("scram-sha-256", user, PlainSecret("wrong")).exchange.refusal or "")


def test_under_trust_a_stranger_is_refused(verifiers: Verifiers) -> None:
    with pytest.raises(ClientError) as caught:
        begin("trust", "ghost", None, verifiers=verifiers).start()
    assert caught.value.sqlstate == "28P01"


def test_under_trust_who_is_listed_without_a_secret_is_let_in(verifiers: Verifiers) -> None:
    exchange = begin("trust", "ghost", None, verifiers=verifiers, is_listed=True)
    assert (exchange.start(), exchange.done) == (OK, True)


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_being_listed_is_enough_for_trust_only(verifiers: Verifiers, method: str) -> None:
    exchange = begin(method, "ghost", None, verifiers=verifiers, is_listed=True)
    exchange.start()
    assert not exchange.done


def test_an_unknown_method_is_our_own_bug(verifiers: Verifiers) -> None:
    with pytest.raises(ProxyBug):
        begin("kerberos", "app", None, verifiers=verifiers)


def test_a_scram_login_yields_keys_that_log_in_elsewhere(talk: Talk) -> None:
    first = talk("scram-sha-256", "verified", PlainSecret(APP_PASSWORD))
    assert isinstance(first.exchange.proof, ScramKeys)
    assert talk("scram-sha-256", "verified", first.exchange.proof).succeeded


def test_a_password_sent_in_clear_is_yielded(talk: Talk) -> None:
    assert talk("password", "verified", PlainSecret(APP_PASSWORD)).exchange.proof == PlainSecret(
        APP_PASSWORD
    )


def test_a_refused_login_yields_nothing(talk: Talk) -> None:
    assert talk("password", "plain", PlainSecret("wrong")).exchange.proof is None


def test_an_md5_hash_logs_in_under_md5(talk: Talk, roster: Roster) -> None:
    stored = roster.lookup("hashed")
    assert isinstance(stored, Md5Secret)
    assert talk("md5", "hashed", stored).succeeded


def test_each_md5_login_has_a_salt_of_its_own(verifiers: Verifiers) -> None:
    known = PlainSecret("secret")
    starts = {begin("md5", "app", known, verifiers=verifiers).start() for _ in range(20)}
    assert len(starts) == 20


def test_the_salt_and_the_nonce_are_made_of_the_randomness_handed_in(verifiers: Verifiers) -> None:
    exchange = begin(
        "md5", "app", PlainSecret("x"), verifiers=verifiers, random_bytes=lambda n: b"r" * n
    )
    assert exchange.start() == b"\0\0\0\5rrrr"


def test_a_client_may_send_its_first_message_after_an_empty_challenge(
    roster: Roster, verifiers: Verifiers, derived: DerivedKeys
) -> None:
    exchange = begin("scram-sha-256", "plain", roster.lookup("plain"), verifiers=verifiers)
    login = ServerLogin("plain", PlainSecret(APP_PASSWORD), derived=derived)
    initial = login.receive(exchange.start()) or b""
    mechanism, client_first = initial[:14], initial[18:]
    assert exchange.receive(mechanism + b"\xff\xff\xff\xff") == Reply((b"\0\0\0\x0b",), False)
    final = login.receive(exchange.receive(client_first).send[0]) or b""
    assert exchange.receive(final).done


# -- what a client may get wrong ---------------------------------------------------------------


def initial_response(data: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    return mechanism + b"\0" + len(data).to_bytes(4) + data


FIRST = b"n,,n=,r=client+nonce"

MALFORMED_PASSWORDS = [
    (b"", "not ended by a NUL"),
    (b"secret", "not ended by a NUL"),
    (b"secret\0more", "bytes follow"),
    (b"secret\0\0", "bytes follow"),
    (b"\0secret\0", "bytes follow"),
]

MALFORMED_INITIAL_RESPONSES = [
    (b"", "08P01", "not ended by a NUL"),
    (b"SCRAM-SHA-256", "08P01", "not ended by a NUL"),
    (b"\0\0\0\0\0", "08P01", "not offered"),
    (initial_response(FIRST, b"SCRAM-SHA-1"), "08P01", "not offered"),
    (initial_response(FIRST, b"SCRAM-SHA-256-PLUS"), "08P01", "not offered"),
    (initial_response(FIRST, b"scram-sha-256"), "08P01", "not offered"),
    (b"SCRAM-SHA-256\0", "08P01", "length of its data is missing"),
    (b"SCRAM-SHA-256\0\0\0\0", "08P01", "length of its data is missing"),
    (b"SCRAM-SHA-256\0\0\0\0\0", "08P01", "it is empty"),
    (b"SCRAM-SHA-256\0\xff\xff\xff\xff" + FIRST, "08P01", "announces -1 bytes"),
    (b"SCRAM-SHA-256\0\xff\xff\xff\xfe", "08P01", "announces -2 bytes"),
    (b"SCRAM-SHA-256\0\x80\0\0\0" + FIRST, "08P01", "announces -2147483648 bytes"),
    (b"SCRAM-SHA-256\0\x7f\xff\xff\xff" + FIRST, "08P01", "announces 2147483647 bytes"),
    (initial_response(FIRST) + b"x", "08P01", "announces 20 bytes of data and holds 21"),
    (initial_response(FIRST)[:-1], "08P01", "announces 20 bytes of data and holds 19"),
    (initial_response(FIRST + b"\0"), "08P01", "NUL"),
    (
        initial_response(b"p=tls-server-end-point,,n=,r=x"),
        "08P01",
        "selected SCRAM-SHA-256 without",
    ),
    (initial_response(b"garbage"), "08P01", "attributes are missing"),
]


@pytest.fixture(params=["plain", "ghost"])
def user(request: pytest.FixtureRequest) -> Iterator[str]:
    """A known user and a stranger: what is malformed is malformed for both."""
    yield request.param


def begun(method: str, user: str, roster: Roster, verifiers: Verifiers) -> Exchange:
    exchange = begin(method, user, roster.lookup(user), verifiers=verifiers)
    exchange.start()
    return exchange


@pytest.mark.parametrize(("body", "said"), MALFORMED_PASSWORDS)
def test_a_malformed_password_message_is_named(
    roster: Roster, verifiers: Verifiers, user: str, body: bytes, said: str
) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        begun("password", user, roster, verifiers).receive(body)
    assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize(("body", "said"), MALFORMED_PASSWORDS)
def test_a_malformed_md5_answer_is_named(
    roster: Roster, process_secret: bytes, body: bytes, said: str
) -> None:
    exchange = begun("md5", "plain", roster, Verifiers(process_secret))
    with pytest.raises(PeerError, match=said):
        exchange.receive(body)


@pytest.mark.parametrize(("body", "sqlstate", "said"), MALFORMED_INITIAL_RESPONSES)
def test_a_malformed_initial_response_is_named(
    roster: Roster, verifiers: Verifiers, user: str, body: bytes, sqlstate: str, said: str
) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        begun("scram-sha-256", user, roster, verifiers).receive(body)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "it is empty"),
        (b"c=biws", "attributes are missing"),
        (b"c=biws,r=client+nonce,p=" + b"A" * 43 + b"=", "not that of this login"),
    ],
)
def test_a_malformed_final_response_is_named(
    roster: Roster, verifiers: Verifiers, user: str, body: bytes, said: str
) -> None:
    exchange = begun("scram-sha-256", user, roster, verifiers)
    exchange.receive(initial_response(FIRST))
    with pytest.raises(PeerError, match=said):
        exchange.receive(body)


@pytest.mark.parametrize("method", METHODS)
def test_a_password_after_the_end_is_out_of_order(talk: Talk, method: str) -> None:
    exchange = talk(method, "plain", PlainSecret(APP_PASSWORD)).exchange
    with pytest.raises(PeerError, match="after the login had ended"):
        exchange.receive(APP_PASSWORD.encode() + b"\0")


def test_there_is_no_second_try(roster: Roster, verifiers: Verifiers) -> None:
    exchange = begun("password", "plain", roster, verifiers)
    with pytest.raises(ClientError):
        exchange.receive(b"wrong\0")
    with pytest.raises(PeerError, match="after the login had ended"):
        exchange.receive(APP_PASSWORD.encode() + b"\0")


def test_a_malformed_message_ends_the_login(roster: Roster, verifiers: Verifiers) -> None:
    exchange = begun("password", "plain", roster, verifiers)
    with pytest.raises(PeerError):
        exchange.receive(b"")
    with pytest.raises(PeerError, match="after the login had ended"):
        exchange.receive(APP_PASSWORD.encode() + b"\0")


def test_an_empty_password_is_refused(roster: Roster, verifiers: Verifiers) -> None:
    exchange = begun("password", "plain", roster, verifiers)
    with pytest.raises(ClientError, match="password authentication failed"):
        exchange.receive(b"\0")


# -- what a stranger may learn -----------------------------------------------------------------

CRYPTOGRAPHY = {
    "hmac_digest",
    "pbkdf2_hmac",
    "openssl_sha256",
    "openssl_shake_256",
    "openssl_md5",
    "compare_digest",
    "b2a_base64",
    "a2b_base64",
}


def count_work(
    talk: Callable[[str, str, PlainSecret], object], method: str, user: str, password: str
) -> Counter[str]:
    """Count the calls into cryptography and base64 that one login makes, both sides together."""
    counted: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, function: object) -> None:
        name = getattr(function, "__name__", "")
        if event == "c_call" and name in CRYPTOGRAPHY:
            counted[name] += 1

    sys.setprofile(watch)
    try:
        talk(method, user, PlainSecret(password))
    finally:
        sys.setprofile(None)
    return counted


def test_a_prepared_user_logs_in_without_a_key_derivation(talk: Talk) -> None:
    talk("scram-sha-256", "plain", PlainSecret(APP_PASSWORD))  # the client side keeps its keys
    work = count_work(talk, "scram-sha-256", "plain", APP_PASSWORD)
    # Two of each side, and one for the password before, which is checked in any case.
    assert (work["pbkdf2_hmac"], work["hmac_digest"]) == (0, 5)


@pytest.mark.parametrize("known", ["plain", "verified"])
def test_a_stranger_costs_what_a_wrong_password_costs_under_scram(talk: Talk, known: str) -> None:
    assert count_work(talk, "scram-sha-256", "ghost", "wrong") == count_work(
        talk, "scram-sha-256", known, "wrong"
    )


def one_form(process_secret: bytes, roster: Roster, user: str) -> Verifiers:
    """Verifiers of a proxy where all users have secrets of the same form."""
    verifiers = Verifiers(process_secret)
    secret = roster.lookup(user)
    assert secret is not None
    Roster({user: secret}).prepare(verifiers)
    return verifiers


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
@pytest.mark.parametrize("known", ["plain", "hashed", "verified"])
def test_a_stranger_sees_and_costs_what_a_known_user_does(
    roster: Roster, process_secret: bytes, derived: DerivedKeys, method: str, known: str
) -> None:
    verifiers = one_form(process_secret, roster, known)

    def talk(method: str, user: str, credential: PlainSecret) -> None:
        exchange = begin(method, user, roster.lookup(user), verifiers=verifiers)
        login = ServerLogin(user, credential, derived=derived, allow_cleartext=True)
        pending = [exchange.start()]
        seen.append([])
        with pytest.raises(ClientError):
            while pending:
                body = pending.pop(0)
                seen[-1].append((body[:4], len(body)))
                answer = login.receive(body)
                assert answer is not None
                pending += exchange.receive(answer).send

    seen: list[list[tuple[bytes, int]]] = []
    work = [count_work(talk, method, user, "wrong") for user in (known, "ghost")]
    assert (seen[0], work[0]) == (seen[1], work[1])


def test_a_strangers_challenge_is_the_same_at_every_try(talk: Talk) -> None:
    salts = {
        talk("scram-sha-256", "ghost", PlainSecret("wrong")).to_client[1].split(b",")[1]
        for _ in range(3)
    }
    assert len(salts) == 1


def test_a_password_right_before_costs_no_key_derivation_under_method_password(talk: Talk) -> None:
    talk("password", "verified", PlainSecret(APP_PASSWORD))
    assert count_work(talk, "password", "verified", APP_PASSWORD)["pbkdf2_hmac"] == 0


def test_a_wrong_password_is_not_kept_under_method_password(talk: Talk) -> None:
    counts = [count_work(talk, "password", "verified", "wrong")["pbkdf2_hmac"] for _ in range(3)]
    assert counts == [1, 1, 1]


def test_a_decoy_is_never_logged_in_to_even_with_its_own_password(process_secret: bytes) -> None:
    verifiers = Verifiers(process_secret)
    verifiers.learn([PlainSecret("x")])
    decoy, genuine = verifiers.secret_for("ghost", None)
    assert isinstance(decoy, PlainSecret)
    assert not genuine
    exchange = begin("password", "ghost", None, verifiers=verifiers)
    with pytest.raises(ClientError):
        exchange.receive(decoy.password.encode() + b"\0")


def test_nothing_in_an_exchange_shows_a_secret(talk: Talk, roster: Roster) -> None:
    outcome = talk("password", "plain", PlainSecret(APP_PASSWORD))
    shown = repr((outcome.exchange, outcome.login, outcome.exchange.proof, roster))
    assert APP_PASSWORD not in shown


def test_a_verifier_of_a_known_user_is_the_users_own(roster: Roster, verifiers: Verifiers) -> None:
    stored = roster.lookup("verified")
    assert isinstance(stored, ScramVerifier)
    assert verifiers.verifier_for("verified", stored) == (stored, True)
