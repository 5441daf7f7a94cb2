"""Our login to a server that may say anything."""

import base64

import pytest

from proxy.auth import (
    DerivedKeys,
    Md5Secret,
    PlainSecret,
    ScramKeys,
    ScramVerifier,
    ServerLogin,
)
from proxy.auth.keys import derive_keys
from proxy.auth.md5 import answer_salt, hash_password
from proxy.auth.scram import ScramServer
from proxy.auth.server_login import Credential
from proxy.errors import ClientError, PeerError

OK = b"\0\0\0\0"
CLEARTEXT = b"\0\0\0\3"
MD5 = b"\0\0\0\5salt"
SASL = b"\0\0\0\x0aSCRAM-SHA-256\0\0"
CONTINUE = b"\0\0\0\x0b"
FINAL = b"\0\0\0\x0c"

SALT = b"sixteen bytes!!!"
KEYS = derive_keys("secret", SALT, 4096)
PLAIN = PlainSecret("secret")
HASHED = hash_password("secret", "app")


def login(
    credential: Credential | None = PLAIN,
    *,
    allow_cleartext: bool = False,
    require_auth: tuple[str, ...] = (),
) -> ServerLogin:
    return ServerLogin(
        "app",
        credential,
        derived=DerivedKeys(),
        allow_cleartext=allow_cleartext,
        require_auth=require_auth,
    )


def challenge(initial: bytes | None, keys: ScramKeys = KEYS) -> tuple[ScramServer, bytes]:
    """Play the server: answer SASLInitialResponse with AuthenticationSASLContinue."""
    assert initial is not None
    server = ScramServer(keys.verifier(SALT, 4096), True, b"server+nonce")
    return server, CONTINUE + server.challenge(initial[18:])


def proved() -> tuple[ServerLogin, bytes]:
    """A login up to the point where the server must show its signature, and that message."""
    made = login()
    server, first = challenge(made.receive(SASL))
    final = made.receive(first)
    assert final is not None
    signature = server.check(final)
    assert signature is not None
    return made, FINAL + signature


def test_a_server_that_trusts_us_needs_no_password() -> None:
    made = login(None)
    assert (made.receive(OK), made.done) == (None, True)


def test_the_password_is_sent_in_clear_where_that_is_allowed() -> None:
    made = login(PlainSecret("pä\udcff"), allow_cleartext=True)
    assert made.receive(CLEARTEXT) == "pä".encode() + b"\xff\0"
    assert (made.receive(OK), made.done) == (None, True)


def test_the_password_is_not_sent_in_clear_where_it_is_not_allowed() -> None:
    with pytest.raises(PeerError, match="clear text") as caught:
        login().receive(CLEARTEXT)
    assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize("credential", [PLAIN, HASHED])
def test_md5_is_answered_from_the_password_or_its_hash(credential: Credential) -> None:
    assert login(credential).receive(MD5) == answer_salt(PLAIN, "app", b"salt") + b"\0"


@pytest.mark.parametrize(
    ("asked", "method"),
    [(OK, "none"), (CLEARTEXT, "password"), (MD5, "md5"), (SASL, "scram-sha-256")],
)
@pytest.mark.parametrize("required", ["none", "password", "md5", "scram-sha-256"])
def test_what_is_not_among_require_auth_is_not_answered(
    asked: bytes, method: str, required: str
) -> None:
    made = login(allow_cleartext=True, require_auth=(required,))
    if method == required:
        made.receive(asked)
        return
    with pytest.raises(PeerError, match=f"require_auth has {required} only") as caught:
        made.receive(asked)
    assert caught.value.sqlstate == "28000"


def test_scram_begins_with_the_mechanism_and_an_empty_user_name() -> None:
    made = ServerLogin("app", PLAIN, derived=DerivedKeys(), random_bytes=lambda n: b"\0" * n)
    first = b"n,,n=,r=" + b"A" * 24
    assert made.receive(SASL) == b"SCRAM-SHA-256\0\0\0\0\x20" + first


def test_scram_with_a_password_logs_in() -> None:
    made, signature = proved()
    assert [made.receive(signature), made.receive(OK), made.done] == [None, None, True]


def test_scram_with_the_keys_of_a_client_logs_in() -> None:
    made = login(KEYS)
    server, first = challenge(made.receive(SASL))
    final = made.receive(first)
    assert final is not None
    assert server.check(final) is not None


def test_scram_is_chosen_among_other_mechanisms() -> None:
    offered = b"\0\0\0\x0aOAUTHBEARER\0SCRAM-SHA-256\0SCRAM-SHA-512\0\0"
    assert (login().receive(offered) or b"").startswith(b"SCRAM-SHA-256\0")


@pytest.mark.parametrize(
    ("credential", "asked"),
    [
        (None, CLEARTEXT),
        (None, MD5),
        (None, SASL),
        (PlainSecret(""), CLEARTEXT),
        (PlainSecret(""), MD5),
        (PlainSecret(""), SASL),
        (HASHED, CLEARTEXT),
        (HASHED, SASL),
        (KEYS, CLEARTEXT),
        (KEYS, MD5),
        (ScramVerifier(4096, SALT, bytes(32), bytes(32)), CLEARTEXT),
        (ScramVerifier(4096, SALT, bytes(32), bytes(32)), MD5),
        (ScramVerifier(4096, SALT, bytes(32), bytes(32)), SASL),
    ],
)
def test_a_password_we_do_not_have_is_a_clear_error(
    credential: Credential | None, asked: bytes
) -> None:
    with pytest.raises(ClientError) as caught:
        login(credential, allow_cleartext=True).receive(asked)
    assert (caught.value.sqlstate, caught.value.message) == (
        "28P01",
        'no password is known for server user "app"',
    )


def test_what_is_known_instead_of_the_password_is_told() -> None:
    with pytest.raises(ClientError) as caught:
        login(Md5Secret("md5" + "0" * 32)).receive(SASL)
    assert "md5 hash" in (caught.value.detail or "")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "without a code"),
        (b"\0\0\0", "without a code"),
        (b"\0\0\0\1", "unknown authentication method .code 1"),
        (b"\0\0\0\2", "Kerberos V5"),
        (b"\0\0\0\4", "unknown authentication method"),
        (b"\0\0\0\6", "SCM"),
        (b"\0\0\0\7", "GSSAPI"),
        (b"\0\0\0\x08", "GSSAPI"),
        (b"\0\0\0\x09", "SSPI"),
        (b"\0\0\0\x0d", "unknown authentication method"),
        (b"\xff\xff\xff\xff", "unknown authentication method"),
        (OK + b"x", "1 bytes follow its code, 0 should"),
        (CLEARTEXT + b"x", "1 bytes follow its code, 0 should"),
        (b"\0\0\0\5", "0 bytes follow its code, 4 should"),
        (b"\0\0\0\5sal", "3 bytes follow its code, 4 should"),
        (MD5 + b"x", "5 bytes follow its code, 4 should"),
        (b"\0\0\0\x0a", "list does not end"),
        (b"\0\0\0\x0aSCRAM-SHA-256", "list does not end"),
        (b"\0\0\0\x0aSCRAM-SHA-256\0", "list does not end"),
        (b"\0\0\0\x0aSCRAM-SHA-256\0\0x", "list does not end"),
        (b"\0\0\0\x0aSCRAM-SHA-256\0\0\0", "an offer is empty"),
        (b"\0\0\0\x0a\0", "no SASL mechanism we know"),
        (b"\0\0\0\x0a\0\0", "an offer is empty"),
        (b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0", "without TLS"),
        (b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", "without TLS"),
        (b"\0\0\0\x0aSCRAM-SHA-1\0\0", "no SASL mechanism we know"),
        (CONTINUE + b"r=x,s=QUJD,i=1", "where a request for authentication was due"),
        (FINAL + b"v=x", "where a request for authentication was due"),
    ],
)
def test_a_first_message_that_cannot_be_is_named(body: bytes, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        login(allow_cleartext=True).receive(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (OK, "before it had proved"),
        (CLEARTEXT, "AuthenticationCleartextPassword where AuthenticationSASLContinue was due"),
        (MD5, "AuthenticationMD5Password where AuthenticationSASLContinue was due"),
        (SASL, "AuthenticationSASL where AuthenticationSASLContinue was due"),
        (FINAL + b"v=x", "AuthenticationSASLFinal where AuthenticationSASLContinue was due"),
        (b"\0\0\0\7", "GSSAPI"),
        (CONTINUE, "it is empty"),
        (CONTINUE + b"r=not+ours,s=QUJD,i=1", "does not begin with ours"),
    ],
)
def test_once_scram_began_nothing_else_will_do(body: bytes, said: str) -> None:
    made = login(allow_cleartext=True)
    made.receive(SASL)
    with pytest.raises(PeerError, match=said):
        made.receive(body)
    assert not made.done


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (OK, "before it had proved"),
        (SASL, "was due"),
        (CLEARTEXT, "was due"),
        (CONTINUE + b"r=x,s=QUJD,i=1", "was due"),
        (FINAL, "it is empty"),
        (FINAL + b"v=" + base64.b64encode(bytes(32)), "signature is wrong"),
        (FINAL + b"e=invalid-proof", "invalid-proof"),
    ],
)
def test_without_the_servers_signature_there_is_no_login(body: bytes, said: str) -> None:
    made, _ = proved()
    with pytest.raises(PeerError, match=said):
        made.receive(body)
    assert not made.done


@pytest.mark.parametrize("body", [CLEARTEXT, MD5, SASL, CONTINUE + b"x", FINAL + b"x"])
def test_after_the_proof_only_ok_may_come(body: bytes) -> None:
    made, signature = proved()
    made.receive(signature)
    with pytest.raises(PeerError, match="where AuthenticationOk was due"):
        made.receive(body)


@pytest.mark.parametrize("body", [OK, CLEARTEXT, MD5, SASL])
def test_there_is_no_second_login(body: bytes) -> None:
    made = login()
    made.receive(OK)
    with pytest.raises(PeerError, match="where nothing more was due"):
        made.receive(body)


def test_after_an_error_nothing_is_answered() -> None:
    made = login()
    with pytest.raises(PeerError):
        made.receive(b"")
    with pytest.raises(PeerError, match="nothing more"):
        made.receive(MD5)


def test_the_second_login_derives_no_keys() -> None:
    derived = DerivedKeys()
    derived.keep("secret", SALT, 4096, KEYS)
    made = ServerLogin("app", PlainSecret("secret"), derived=derived)
    server, first = challenge(made.receive(SASL))
    assert server.check(made.receive(first) or b"") is not None
    assert len(derived) == 1


def test_a_server_with_a_new_salt_each_time_fills_no_cache() -> None:
    derived = DerivedKeys()
    for salt in (b"one", b"two"):
        made = ServerLogin("app", PLAIN, derived=derived)
        nonce = (made.receive(SASL) or b"").rpartition(b"r=")[2]
        made.receive(CONTINUE + b"r=%bx,s=%b,i=1" % (nonce, base64.b64encode(salt)))
    assert len(derived) == 0
