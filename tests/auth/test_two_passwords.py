"""While a password is being changed the one before is as valid, in every method and form."""

import base64
import hashlib
import struct

import pytest
import scramp

from proxy.auth import (
    Exchange,
    PlainSecret,
    Roster,
    SecretError,
    Verifiers,
    begin,
)
from proxy.auth.authentication import SASL_CONTINUE_PREFIX, SASL_FINAL_PREFIX
from proxy.auth.keys import derive_keys
from proxy.auth.md5 import answer_salt, hash_password
from proxy.errors import ClientError

USER, NEW, OLD = "app", "the new one", "the old one"
SALT = b"0123456789abcdef"


def verifier_text(password: str, salt: bytes = SALT, iterations: int = 4096) -> str:
    keys = derive_keys(password, salt, iterations)
    stored = hashlib.sha256(keys.client_key).digest()
    parts = [base64.b64encode(each).decode() for each in (salt, stored, keys.server_key)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


TEXTS = {
    "plain": (NEW, OLD),
    "md5": (hash_password(NEW, USER).text, hash_password(OLD, USER).text),
    "verifier": (verifier_text(NEW), verifier_text(OLD)),
}


def roster_of(form: str) -> Roster:
    new, old = TEXTS[form]
    return Roster.from_texts({USER: new}, {USER: old})


def log_in(method: str, roster: Roster, password: str, user: str = USER) -> Exchange:
    """Hold the conversation as a client that knows this password."""
    verifiers = Verifiers(bytes(16))
    roster.prepare(verifiers)
    exchange = begin(method, user, roster.lookup(user), verifiers=verifiers)
    first = exchange.start()
    code = int.from_bytes(first[:4])
    if code == 3:
        exchange.receive(password.encode() + b"\0")
    elif code == 5:
        exchange.receive(answer_salt(PlainSecret(password), user, first[4:]) + b"\0")
    else:
        client = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
        initial = client.get_client_first().encode()
        body = b"SCRAM-SHA-256\0" + struct.pack("!i", len(initial)) + initial
        (challenge,) = exchange.receive(body).send
        client.set_server_first(challenge.removeprefix(SASL_CONTINUE_PREFIX).decode())
        final, _ = exchange.receive(client.get_client_final().encode()).send
        # The client checks that we know the very password it has.
        client.set_server_final(final.removeprefix(SASL_FINAL_PREFIX).decode())
    return exchange


@pytest.mark.parametrize("password", [NEW, OLD])
@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("password", "plain"),
        ("password", "md5"),
        ("password", "verifier"),
        ("md5", "plain"),
        ("md5", "md5"),
        ("md5", "verifier"),
        ("scram-sha-256", "plain"),
        ("scram-sha-256", "verifier"),
    ],
)
def test_either_password_logs_in_and_a_third_does_not(
    method: str, form: str, password: str
) -> None:
    assert log_in(method, roster_of(form), password).done
    with pytest.raises(ClientError) as caught:
        log_in(method, roster_of(form), "a third one")
    assert caught.value.sqlstate == "28P01"


def test_without_an_old_one_it_is_refused() -> None:
    for method in ("password", "md5", "scram-sha-256"):
        with pytest.raises(ClientError):
            log_in(method, Roster.from_texts({USER: NEW}), OLD)


def test_the_salt_of_a_user_does_not_tell_of_a_change_under_way() -> None:
    verifiers = Verifiers(bytes(16))
    alone, _ = verifiers.verifier_for(USER, PlainSecret(NEW))
    both, _ = verifiers.verifier_for(USER, PlainSecret(NEW, PlainSecret(OLD)))
    assert (alone.salt, alone.iterations) == (both.salt, both.iterations)
    assert alone.old is None and both.old is not None


def test_what_a_login_proved_are_the_keys_of_the_password_it_used() -> None:
    for password in (NEW, OLD):
        exchange = log_in("scram-sha-256", roster_of("verifier"), password)
        assert exchange.proof == derive_keys(password, SALT, 4096)


def test_a_change_is_prepared_and_undone() -> None:
    verifiers = Verifiers(bytes(16))
    for secret in (PlainSecret(NEW, PlainSecret(OLD)), PlainSecret(NEW), PlainSecret(OLD)):
        assert verifiers.prepare(USER, secret)
        assert not verifiers.prepare(USER, secret)


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_an_empty_old_password_lets_nobody_in(method: str) -> None:
    roster = Roster.from_texts({USER: NEW}, {USER: ""})
    assert roster.lookup(USER) == PlainSecret(NEW)
    with pytest.raises(ClientError):
        log_in(method, roster, "")


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (NEW, TEXTS["md5"][1]),
        (TEXTS["md5"][0], TEXTS["verifier"][1]),
        (TEXTS["verifier"][0], OLD),
        (verifier_text(NEW), verifier_text(OLD, salt=b"another salt")),
        (verifier_text(NEW), verifier_text(OLD, iterations=4097)),
    ],
)
def test_two_that_no_conversation_serves_are_refused(new: str, old: str) -> None:
    with pytest.raises(SecretError, match=USER) as caught:
        Roster.from_texts({USER: new}, {USER: old})
    assert NEW not in str(caught.value) and OLD not in str(caught.value)


def test_neither_password_shows() -> None:
    for form in TEXTS:
        shown = repr(roster_of(form).lookup(USER))
        assert NEW not in shown and OLD not in shown
        assert base64.b64encode(SALT).decode() not in shown
