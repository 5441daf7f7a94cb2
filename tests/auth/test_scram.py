"""SCRAM-SHA-256 in both roles: the RFC's vector, and scramp as the other side."""

import base64
import hashlib
import hmac

import pytest
import scramp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.auth import DerivedKeys, PlainSecret, ScramKeys
from proxy.auth.keys import derive_keys
from proxy.auth.saslprep import prepare_password
from proxy.auth.scram import ScramClient, ScramServer
from proxy.errors import PeerError, ProxyBug

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

PENCIL_KEYS = derive_keys("pencil", SALT, 4096)
PENCIL = PENCIL_KEYS.verifier(SALT, 4096)


def pencil_server() -> ScramServer:
    server = ScramServer(PENCIL, True, SERVER_NONCE)
    server.challenge(CLIENT_FIRST)
    return server


def pencil_client() -> ScramClient:
    return ScramClient(PlainSecret("pencil"), DerivedKeys(), CLIENT_NONCE, "user")


def test_the_server_side_speaks_the_exchange_of_rfc_7677() -> None:
    server = ScramServer(PENCIL, True, SERVER_NONCE)
    assert [server.challenge(CLIENT_FIRST), server.check(CLIENT_FINAL)] == [
        SERVER_FIRST,
        SERVER_FINAL,
    ]


def test_the_client_side_speaks_the_exchange_of_rfc_7677() -> None:
    client = pencil_client()
    assert [client.first(), client.final(SERVER_FIRST)] == [CLIENT_FIRST, CLIENT_FINAL]
    client.verify(SERVER_FINAL)
    assert client.is_verified


def test_a_right_proof_yields_the_keys_of_the_client() -> None:
    server = pencil_server()
    server.check(CLIENT_FINAL)
    assert server.keys == PENCIL_KEYS


def test_the_keys_of_a_client_log_in_in_its_place() -> None:
    client = ScramClient(PENCIL_KEYS, DerivedKeys(), CLIENT_NONCE, "user")
    assert client.final(SERVER_FIRST) == CLIENT_FINAL


def test_a_wrong_proof_yields_nothing() -> None:
    server = pencil_server()
    wrong = CLIENT_FINAL.replace(b"p=dH", b"p=dG")
    assert (server.check(wrong), server.keys) == (None, None)


def test_a_right_proof_against_a_verifier_that_is_not_genuine_yields_nothing() -> None:
    server = ScramServer(PENCIL, False, SERVER_NONCE)
    server.challenge(CLIENT_FIRST)
    assert (server.check(CLIENT_FINAL), server.keys) == (None, None)


@pytest.mark.parametrize(
    ("final", "said"),
    [
        (CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), "channel-binding"),
        (CLIENT_FINAL.replace(b"c=biws", b"c="), "channel-binding"),
        (CLIENT_FINAL.replace(b"r=rOpr", b"r=xOpr"), "nonce"),
        (CLIENT_FINAL.replace(SERVER_NONCE, b""), "nonce"),
        (CLIENT_FINAL.replace(SERVER_NONCE, SERVER_NONCE + b"x"), "nonce"),
    ],
)
def test_a_final_message_of_another_exchange_is_refused(final: bytes, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        pencil_server().check(final)


def test_a_client_that_could_bind_but_was_not_offered_to_is_let_in() -> None:
    server = ScramServer(PENCIL, True, SERVER_NONCE)
    first = server.challenge(CLIENT_FIRST.replace(b"n,,", b"y,,", 1))
    auth_message = CLIENT_FIRST[3:] + b"," + first + b",c=eSws,r=" + CLIENT_NONCE + SERVER_NONCE
    signature = hmac.digest(hashlib.sha256(PENCIL_KEYS.client_key).digest(), auth_message, "sha256")
    proof = bytes(a ^ b for a, b in zip(PENCIL_KEYS.client_key, signature, strict=True))
    final = auth_message.rpartition(b",c=")[2]
    assert server.check(b"c=" + final + b",p=" + base64.b64encode(proof)) is not None


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    client = pencil_client()
    client.final(SERVER_FIRST)
    with pytest.raises(PeerError, match="signature is wrong") as caught:
        client.verify(b"v=" + base64.b64encode(bytes(32)))
    assert (caught.value.sqlstate, client.is_verified) == ("28000", False)


def test_a_signature_before_there_is_something_to_sign_is_our_own_bug() -> None:
    with pytest.raises(ProxyBug):
        pencil_client().verify(b"v=" + base64.b64encode(bytes(32)))


def test_derived_keys_are_kept_once_the_server_has_proved_itself() -> None:
    kept = DerivedKeys()
    client = ScramClient(PlainSecret("pencil"), kept, CLIENT_NONCE, "user")
    client.final(SERVER_FIRST)
    before = len(kept)
    client.verify(SERVER_FINAL)
    assert (before, len(kept)) == (0, 1)


def test_kept_keys_are_bounded_and_the_longest_unused_leave() -> None:
    kept = DerivedKeys(limit=2)
    for password in ("a", "b"):
        kept.keep(password, b"salt", 1, ScramKeys(b"", b""))
    kept.find("a", b"salt", 1)
    kept.keep("c", b"salt", 1, ScramKeys(b"", b""))
    assert [kept.find(p, b"salt", 1) is not None for p in "abc"] == [True, False, True]


# scramp follows RFC 4013 to the letter; where PostgreSQL departs from it, libpq is the oracle.
def scramp_prepares_alike(password: str) -> bool:
    try:
        return bool(scramp.utils.saslprep(password).encode() == prepare_password(password))
    except scramp.ScramException:
        return False


PASSWORDS = st.text(min_size=1, max_size=40).filter(scramp_prepares_alike)
SALTS = st.binary(min_size=12, max_size=64)
NONCES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1
)


# Many texts are none that both prepare alike.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(right=PASSWORDS, typed=PASSWORDS, salt=SALTS, nonce=NONCES)
def test_a_scramp_client_logs_in_with_the_right_password_only(
    right: str, typed: str, salt: bytes, nonce: str
) -> None:
    for password in (right, typed):
        verifier = derive_keys(right, salt, 4096).verifier(salt, 4096)
        server = ScramServer(verifier, True, b"ours")
        client = scramp.ScramClient(["SCRAM-SHA-256"], "user", password, c_nonce=nonce)
        client.set_server_first(server.challenge(client.get_client_first().encode()).decode())
        final = server.check(client.get_client_final().encode())
        is_right = prepare_password(password) == prepare_password(right)
        assert (final is not None) == is_right
        if final is not None:
            client.set_server_final(final.decode())


@settings(max_examples=60, deadline=None)
@given(password=PASSWORDS, salt=SALTS, iterations=st.integers(4096, 6000))
def test_we_log_in_to_a_scramp_server(password: str, salt: bytes, iterations: int) -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    stored = mechanism.make_auth_info(password, iteration_count=iterations, salt=salt)
    server = mechanism.make_server(lambda user: stored)
    client = ScramClient(PlainSecret(password), DerivedKeys(), b"our+nonce", "a,b=c")
    server.set_client_first(client.first().decode())
    server.set_client_final(client.final(server.get_server_first().encode()).decode())
    client.verify(server.get_server_final().encode())
    assert client.is_verified


def test_a_scramp_server_refuses_a_wrong_password_of_ours() -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    stored = mechanism.make_auth_info("pencil", iteration_count=4096, salt=SALT)
    server = mechanism.make_server(lambda user: stored)
    client = ScramClient(PlainSecret("pen"), DerivedKeys(), b"our+nonce", "user")
    server.set_client_first(client.first().decode())
    final = client.final(server.get_server_first().encode()).decode()
    with pytest.raises(scramp.ScramException):
        server.set_client_final(final)
