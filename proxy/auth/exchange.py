"""A client logs in: the conversation, without the connection.

The proxy plays PostgreSQL. `begin` picks the conversation for a method and a user, `start` gives
the first Authentication message, and every password message of the client goes into `receive`
until `done`:

    exchange = begin("scram-sha-256", user, roster.lookup(user), verifiers=verifiers)
    send(exchange.start())
    while not exchange.done:
        for body in exchange.receive(read_password_message()).send:
            send(body)

Which conversation it is:

    method         plain        md5 hash     SCRAM verifier   unknown
    trust          none         none         none             refused
    password       clear text   clear text   clear text       clear text, then refused
    md5            md5          md5          SCRAM            as one of the known, then refused
    scram-sha-256  SCRAM        SCRAM, then refused   SCRAM   SCRAM, then refused

A refusal is one ClientError (28P01) with one text, whatever the reason; the reason is in `refusal`
and is for the operator's log alone. After any error an exchange is over.

Source: PostgreSQL documentation, "Message Flow" (Start-up) and "SASL Authentication"; PgBouncer
documentation, `auth_type`.
"""

import hmac
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from proxy.auth.authentication import (
    CLEARTEXT_BODY,
    MD5_PREFIX,
    MD5_SALT_BYTES,
    OK_BODY,
    SASL_CONTINUE_PREFIX,
    SASL_FINAL_PREFIX,
    sasl_body,
)
from proxy.auth.keys import ScramKeys
from proxy.auth.md5 import hash_password, is_right_answer
from proxy.auth.scram import BOUND_MECHANISM, MECHANISM, ScramServer, make_nonce
from proxy.auth.secrets import Md5Secret, PlainSecret, ScramVerifier, Secret
from proxy.auth.verifiers import Verifiers
from proxy.errors import ClientError, PeerError, ProxyBug

METHODS = ("any", "trust", "password", "md5", "scram-sha-256")


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do after a password message. send: Authentication bodies, in order."""

    send: tuple[bytes, ...]
    done: bool


_ACCEPTED = Reply((OK_BODY,), True)


class Exchange:
    """One client's login. Made by `begin`.

    done: the client has proved who it is, and Authentication Ok was given to be sent.
    refusal: why it could not, once it could not; for the log, not for the client.
    proof: what the client gave away of itself that can log in elsewhere as the same user: its
    password (method password), its SCRAM keys, or None.
    """

    __slots__ = ("done", "proof", "refusal", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.done = False
        self.refusal: str | None = None
        self.proof: PlainSecret | ScramKeys | None = None

    def start(self) -> bytes:
        """Give the body of the first Authentication message.

        Raises ClientError (28P01) where the method refuses the user without asking.
        """
        raise NotImplementedError

    def receive(self, body: bytes) -> Reply:
        """Take the body of a `p` message and say what to send next.

        Raises ClientError (28P01) when the login is refused, PeerError (mostly 08P01) when the
        message is malformed or not awaited.
        """
        if self.done or self.refusal is not None:
            raise PeerError("a password message came after the login had ended")
        try:
            return self._answer(body)
        except PeerError as broken:
            self.refusal = broken.message
            raise

    def _answer(self, body: bytes) -> Reply:
        raise NotImplementedError

    def _accept(self) -> Reply:
        self.done = True
        return _ACCEPTED

    def _refuse(self, genuine: bool, reason: str) -> ClientError:
        self.refusal = reason if genuine else "no such user, or none that can log in this way"
        return ClientError("28P01", f'password authentication failed for user "{self.user}"')


def begin(
    method: str,
    user: str,
    known: Secret | None,
    *,
    verifiers: Verifiers,
    random_bytes: Callable[[int], bytes] = os.urandom,
    is_listed: bool = False,
    endpoint: bytes | None = None,
) -> Exchange:
    """Begin the login of one client.

    method: one of METHODS. user: the name in the startup packet, decoded as UTF-8 with
    `surrogateescape`. known: the user's secret, None when there is no such user.
    random_bytes: gives that many unpredictable bytes.
    is_listed: the user exists, even where there is no secret of theirs; decides under trust alone.
    endpoint: the hash of the certificate that the client was shown (`tls-server-end-point`), which
    it may bind its SCRAM login to; None without TLS.
    """
    match method:
        case "any":
            return _TrustExchange(user, True)
        case "trust":
            return _TrustExchange(user, known is not None or is_listed)
        case "password":
            return _PasswordExchange(user, *verifiers.secret_for(user, known), verifiers)
        case "md5":
            secret, genuine = verifiers.secret_for(user, known)
            if isinstance(secret, ScramVerifier):
                return _ScramExchange(user, secret, genuine, random_bytes, endpoint)
            return _Md5Exchange(user, secret, genuine, random_bytes(MD5_SALT_BYTES))
        case "scram-sha-256":
            return _ScramExchange(
                user, *verifiers.verifier_for(user, known), random_bytes, endpoint
            )
        case _:
            raise ProxyBug(f"authentication method {method!r} has no exchange")


class _TrustExchange(Exchange):
    __slots__ = ("_is_known",)

    def __init__(self, user: str, is_known: bool) -> None:
        super().__init__(user)
        self._is_known = is_known

    def start(self) -> bytes:
        if not self._is_known:
            raise self._refuse(True, "no such user")
        self.done = True
        return OK_BODY

    def _answer(self, body: bytes) -> Reply:
        raise PeerError("a password message came although none was asked for")


class _PasswordExchange(Exchange):
    __slots__ = ("_genuine", "_secret", "_verifiers")

    def __init__(self, user: str, secret: Secret, genuine: bool, verifiers: Verifiers) -> None:
        super().__init__(user)
        self._secret = secret
        self._genuine = genuine
        self._verifiers = verifiers

    def start(self) -> bytes:
        return CLEARTEXT_BODY

    def _answer(self, body: bytes) -> Reply:
        raw = read_password(body)
        if not raw:
            raise self._refuse(self._genuine, "the password sent is empty")
        password = raw.decode("utf-8", "surrogateescape")
        if not self._is_right(password, raw):
            raise self._refuse(self._genuine, "wrong password")
        self.proof = PlainSecret(password)
        return self._accept()

    def _is_right(self, password: str, raw: bytes) -> bool:
        secret = self._secret
        if isinstance(secret, ScramVerifier):
            return self._verifiers.is_password_of(secret, self._genuine, password)
        if isinstance(secret, Md5Secret):
            valid = [each.text.encode("ascii") for each in (secret, secret.old or secret)]
            raw = hash_password(password, self.user).text.encode("ascii")
        else:
            valid = [
                each.password.encode("utf-8", "surrogateescape")
                for each in (secret, secret.old or secret)
            ]
        # The stranger's bytes stand second: the time of the comparison goes by their length.
        is_right = [hmac.compare_digest(expected, raw) for expected in valid]
        return any(is_right) and self._genuine


class _Md5Exchange(Exchange):
    __slots__ = ("_genuine", "_salt", "_secret")

    def __init__(
        self, user: str, secret: PlainSecret | Md5Secret, genuine: bool, salt: bytes
    ) -> None:
        super().__init__(user)
        self._secret = secret
        self._genuine = genuine
        self._salt = salt

    def start(self) -> bytes:
        return MD5_PREFIX + self._salt

    def _answer(self, body: bytes) -> Reply:
        answer = read_password(body)
        secret = self._secret
        is_right = [
            is_right_answer(each, self.user, self._salt, answer)
            for each in (secret, secret.old or secret)
        ]
        if not (any(is_right) and self._genuine):
            raise self._refuse(self._genuine, "wrong password")
        return self._accept()


# What is offered without a certificate to bind to, and with one.
_UNBOUND, _BOUND = (MECHANISM,), (BOUND_MECHANISM, MECHANISM)
_OFFERS = {offered: sasl_body(offered) for offered in (_UNBOUND, _BOUND)}


class _ScramExchange(Exchange):
    """SCRAM-SHA-256, and SCRAM-SHA-256-PLUS where there is a certificate to bind it to.

    choose_mechanism --SASLInitialResponse--> check_proof --SASLResponse--> done
        \\--the same without data--> challenge --SASLResponse--> check_proof
    """

    __slots__ = ("_genuine", "_mechanism", "_offered", "_scram", "_step")

    def __init__(
        self,
        user: str,
        verifier: ScramVerifier,
        genuine: bool,
        random_bytes: Callable[[int], bytes],
        endpoint: bytes | None,
    ) -> None:
        super().__init__(user)
        self._genuine = genuine
        self._scram = ScramServer(verifier, genuine, make_nonce(random_bytes), endpoint)
        self._offered = _UNBOUND if endpoint is None else _BOUND
        self._mechanism = MECHANISM
        # What takes the next message. Not bound to us: that would be a cycle for each login.
        self._step: _ScramStep = _ScramExchange._choose_mechanism

    def start(self) -> bytes:
        return _OFFERS[self._offered]

    def _answer(self, body: bytes) -> Reply:
        return self._step(self, body)

    def _choose_mechanism(self, body: bytes) -> Reply:
        self._mechanism, client_first = read_initial_response(body, self._offered)
        if client_first is None:
            self._step = _ScramExchange._challenge
            return Reply((SASL_CONTINUE_PREFIX,), False)
        return self._challenge(client_first)

    def _challenge(self, client_first: bytes) -> Reply:
        server_first = self._scram.challenge(client_first, self._mechanism)
        self._step = _ScramExchange._check_proof
        return Reply((SASL_CONTINUE_PREFIX + server_first,), False)

    def _check_proof(self, client_final: bytes) -> Reply:
        server_final = self._scram.check(client_final)
        if server_final is None:
            raise self._refuse(self._genuine, "wrong password")
        self.done = True
        self.proof = self._scram.keys
        return Reply((SASL_FINAL_PREFIX + server_final, OK_BODY), True)


_ScramStep = Callable[[_ScramExchange, bytes], Reply]


def read_password(body: bytes) -> bytes:
    """Read PasswordMessage: one string and the NUL that ends it."""
    end = body.find(0)
    if end < 0:
        raise PeerError("malformed PasswordMessage: the password is not ended by a NUL")
    if end != len(body) - 1:
        raise PeerError("malformed PasswordMessage: bytes follow the password")
    return body[:end]


def read_initial_response(body: bytes, offered: Collection[bytes]) -> tuple[bytes, bytes | None]:
    """Read SASLInitialResponse: mechanism, then data or None where there is none (length -1)."""
    end = body.find(0)
    if end < 0:
        raise PeerError("malformed SASLInitialResponse: the mechanism is not ended by a NUL")
    if body[:end] not in offered:
        raise PeerError("the client selected a SASL mechanism that was not offered")
    if len(body) < end + 5:
        raise PeerError("malformed SASLInitialResponse: the length of its data is missing")
    announced = int.from_bytes(body[end + 1 : end + 5], signed=True)
    response = body[end + 5 :]
    if announced == -1 and not response:
        return body[:end], None
    if announced != len(response):
        raise PeerError(
            f"malformed SASLInitialResponse: it announces {announced} bytes of data"
            f" and holds {len(response)}"
        )
    return body[:end], response
