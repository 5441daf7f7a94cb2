"""We log in to a server: the conversation, without the connection.

The proxy plays a client, and the server is a stranger: it may ask for anything in any order. What
each Authentication message may do is one table, by what is awaited and by its code:

    awaiting        Ok      Cleartext  MD5     SASL            SASLContinue   SASLFinal
    REQUEST         done    answer     answer  begin SCRAM     -              -
    SASL_CONTINUE   -       -          -       -               prove          -
    SASL_FINAL      -       -          -       -               -              verify the server
    OK              done    -          -       -               -              -

Everything else is refused: an Ok before the server has shown that it knows the password as well, a
second beginning, a change to a weaker method, a method we do not know. After any error it is over.

Over TLS the SCRAM login is bound to the certificate that the server showed, when it offers that; if
it does not, it is told that we could have, and a server whose offer somebody in between has made
smaller refuses the login.

Source: PostgreSQL documentation, "Message Flow" (Start-up) and "SASL Authentication".
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from proxy.auth.authentication import MD5_SALT_BYTES, Code
from proxy.auth.keys import DerivedKeys, ScramKeys
from proxy.auth.md5 import answer_salt
from proxy.auth.scram import BOUND_MECHANISM, MECHANISM, ScramClient, make_nonce
from proxy.auth.scram_messages import BINDING_FLAG
from proxy.auth.secrets import Md5Secret, PlainSecret, ScramVerifier
from proxy.errors import ClientError, PeerError, ProxyBug

Credential = PlainSecret | Md5Secret | ScramVerifier | ScramKeys

_NAMES = {
    Code.OK: "AuthenticationOk",
    Code.KERBEROS_V5: "Kerberos V5",
    Code.CLEARTEXT_PASSWORD: "AuthenticationCleartextPassword",
    Code.MD5_PASSWORD: "AuthenticationMD5Password",
    Code.SCM_CREDENTIAL: "SCM credentials",
    Code.GSS: "GSSAPI",
    Code.GSS_CONTINUE: "GSSAPI",
    Code.SSPI: "SSPI",
    Code.SASL: "AuthenticationSASL",
    Code.SASL_CONTINUE: "AuthenticationSASLContinue",
    Code.SASL_FINAL: "AuthenticationSASLFinal",
}
_UNSUPPORTED = frozenset(
    {Code.KERBEROS_V5, Code.SCM_CREDENTIAL, Code.GSS, Code.GSS_CONTINUE, Code.SSPI}
)
_METHOD_OF = {
    PlainSecret: "a password",
    Md5Secret: "an md5 hash",
    ScramVerifier: "a SCRAM verifier, which checks logins but cannot make one",
    ScramKeys: "the SCRAM keys that the client proved to us",
}


class _Awaiting(Enum):
    REQUEST = "a request for authentication"
    SASL_CONTINUE = "AuthenticationSASLContinue"
    SASL_FINAL = "AuthenticationSASLFinal with the server's signature"
    OK = "AuthenticationOk"
    NOTHING = "nothing more"


@dataclass(frozen=True, slots=True)
class Channel:
    """What a login may be bound to.

    is_tls: the connection is encrypted. endpoint: the hash of the certificate that the server
    showed (`tls-server-end-point`), None where that is undefined.
    binding: libpq's `channel_binding`: never, where the server offers it, or not without.
    """

    is_tls: bool = False
    endpoint: bytes | None = None
    binding: Literal["disable", "prefer", "require"] = "prefer"


class ServerLogin:
    """One login of ours to a server.

    user: the name sent in the startup packet. credential: what is known about this user, or None;
    it is needed only if the server asks.
    derived: where keys derived from passwords are kept between logins.
    random_bytes: gives that many unpredictable bytes.
    allow_cleartext: send the password itself when asked (over TLS, a Unix socket, loopback, or by
    the operator's word). require_auth: methods it may ask for, as libpq names them; any when empty.
    channel: what the connection is.
    done: the server said Ok, and had the right to.
    """

    __slots__ = (
        "_allow_cleartext",
        "_awaiting",
        "_channel",
        "_credential",
        "_derived",
        "_random_bytes",
        "_require_auth",
        "_scram",
        "done",
        "user",
    )

    def __init__(
        self,
        user: str,
        credential: Credential | None,
        *,
        derived: DerivedKeys,
        random_bytes: Callable[[int], bytes] = os.urandom,
        allow_cleartext: bool = False,
        require_auth: Collection[str] = (),
        channel: Channel = Channel(),
    ) -> None:
        self.user = user
        self._credential = credential
        self._derived = derived
        self._random_bytes = random_bytes
        self._allow_cleartext = allow_cleartext
        self._require_auth = require_auth
        self._channel = channel
        self._awaiting = _Awaiting.REQUEST
        self._scram: ScramClient | None = None
        self.done = False

    def receive(self, body: bytes) -> bytes | None:
        """Take the body of an `R` message; give the body of the `p` message to send, or None.

        Raises PeerError when the server broke the rules or asks for what we do not do, and
        ClientError (28P01) when it asks for what we do not have. A password that is right but new
        costs one PBKDF2 at SASLContinue; the interpreter's lock is released meanwhile.
        """
        awaiting, self._awaiting = self._awaiting, _Awaiting.NOTHING
        if len(body) < 4:
            raise PeerError("the server sent an Authentication message without a code")
        step = _STEPS.get((awaiting, int.from_bytes(body[:4])))
        if step is None:
            raise _out_of_turn(int.from_bytes(body[:4]), awaiting)
        if awaiting is _Awaiting.REQUEST and step is not ServerLogin._begin_scram:
            self._refuse_unbound()
        if awaiting is _Awaiting.REQUEST:
            self._refuse_unwanted(_METHODS[step])
        return step(self, body[4:])

    def _refuse_unwanted(self, method: str) -> None:
        if self._require_auth and method not in self._require_auth:
            asked = "lets us in without a login" if method == "none" else f"asks for {method}"
            raise PeerError(
                f"the server {asked}, and server.require_auth has"
                f" {', '.join(self._require_auth)} only",
                "28000",
            )

    def _accept(self, rest: bytes) -> None:
        _require_length(rest, 0, Code.OK)
        self.done = True

    def _send_password(self, rest: bytes) -> bytes:
        _require_length(rest, 0, Code.CLEARTEXT_PASSWORD)
        if not self._allow_cleartext:
            raise PeerError(
                "the server asks for the password in clear text, which is not sent over a"
                " connection without TLS",
                "28000",
            )
        credential = self._require_credential()
        if not isinstance(credential, PlainSecret):
            raise self._wrong_credential(credential, "for the password in clear text")
        self._awaiting = _Awaiting.OK
        return credential.password.encode("utf-8", "surrogateescape") + b"\0"

    def _send_md5(self, rest: bytes) -> bytes:
        _require_length(rest, MD5_SALT_BYTES, Code.MD5_PASSWORD)
        credential = self._require_credential()
        if not isinstance(credential, PlainSecret | Md5Secret):
            raise self._wrong_credential(credential, "for an md5 login")
        self._awaiting = _Awaiting.OK
        return answer_salt(credential, self.user, rest) + b"\0"

    def _begin_scram(self, rest: bytes) -> bytes:
        mechanism, flag = self._choose_mechanism(_read_mechanisms(rest))
        credential = self._require_credential()
        if not isinstance(credential, PlainSecret | ScramKeys):
            raise self._wrong_credential(credential, "for a SCRAM login")
        self._scram = ScramClient(
            credential,
            self._derived,
            make_nonce(self._random_bytes),
            gs2_flag=flag,
            endpoint=(self._channel.endpoint or b"") if flag == BINDING_FLAG else b"",
        )
        self._awaiting = _Awaiting.SASL_CONTINUE
        client_first = self._scram.first()
        return b"%b\0%b%b" % (mechanism, len(client_first).to_bytes(4), client_first)

    def _choose_mechanism(self, offered: list[bytes]) -> tuple[bytes, bytes]:
        """Mechanism and flag of channel binding.

        Source: PostgreSQL, pg_SASL_init in src/interfaces/libpq/fe-auth.c.
        """
        channel = self._channel
        if BOUND_MECHANISM in offered and not channel.is_tls:
            raise PeerError(
                "the server offers SCRAM-SHA-256-PLUS over a connection without TLS: somebody in"
                " between may have taken the TLS away",
                "28000",
            )
        can_bind = channel.endpoint is not None and channel.binding != "disable"
        if BOUND_MECHANISM in offered and can_bind:
            return BOUND_MECHANISM, BINDING_FLAG
        self._refuse_unbound()
        if MECHANISM not in offered:
            raise PeerError("the server offers no SASL mechanism we know; SCRAM-SHA-256 is needed")
        return MECHANISM, b"y" if can_bind else b"n"

    def _refuse_unbound(self) -> None:
        if self._channel.binding == "require":
            raise PeerError(
                "the server does not bind the login to its certificate, and tls.channel_binding is"
                " require",
                "28000",
            )

    def _prove(self, server_first: bytes) -> bytes:
        client_final = self._scram_begun().final(server_first)
        self._awaiting = _Awaiting.SASL_FINAL
        return client_final

    def _verify_server(self, server_final: bytes) -> None:
        self._scram_begun().verify(server_final)
        self._awaiting = _Awaiting.OK

    def _scram_begun(self) -> ScramClient:
        if self._scram is None:
            raise ProxyBug("SCRAM is awaited and was not begun")
        return self._scram

    def _require_credential(self) -> Credential:
        credential = self._credential
        if credential is None or (isinstance(credential, PlainSecret) and not credential.password):
            raise ClientError(
                "28P01",
                f'no password is known for server user "{self.user}"',
                hint="Give the cluster's server user a password.",
            )
        return credential

    def _wrong_credential(self, credential: Credential, asked: str) -> ClientError:
        return ClientError(
            "28P01",
            f'no password is known for server user "{self.user}"',
            detail=f"The server asks {asked}; known is {_METHOD_OF[type(credential)]}.",
            hint="Give the cluster's server user a plain password.",
        )


# What libpq's require_auth calls what a server may ask for first.
_METHODS: dict[Callable[[ServerLogin, bytes], bytes | None], str] = {
    ServerLogin._accept: "none",
    ServerLogin._send_password: "password",
    ServerLogin._send_md5: "md5",
    ServerLogin._begin_scram: "scram-sha-256",
}

_STEPS: dict[tuple[_Awaiting, int], Callable[[ServerLogin, bytes], bytes | None]] = {
    (_Awaiting.REQUEST, Code.OK): ServerLogin._accept,
    (_Awaiting.REQUEST, Code.CLEARTEXT_PASSWORD): ServerLogin._send_password,
    (_Awaiting.REQUEST, Code.MD5_PASSWORD): ServerLogin._send_md5,
    (_Awaiting.REQUEST, Code.SASL): ServerLogin._begin_scram,
    (_Awaiting.SASL_CONTINUE, Code.SASL_CONTINUE): ServerLogin._prove,
    (_Awaiting.SASL_FINAL, Code.SASL_FINAL): ServerLogin._verify_server,
    (_Awaiting.OK, Code.OK): ServerLogin._accept,
}


def _out_of_turn(code: int, awaiting: _Awaiting) -> PeerError:
    if code in _UNSUPPORTED:
        return PeerError(
            f"the server asks for {_NAMES[Code(code)]} authentication, which is not supported;"
            " password, md5 and scram-sha-256 are",
            "28000",
        )
    if code not in _NAMES:
        return PeerError(f"the server asks for an unknown authentication method (code {code})")
    if code == Code.OK and awaiting in {_Awaiting.SASL_CONTINUE, _Awaiting.SASL_FINAL}:
        return PeerError(
            "the server sent AuthenticationOk before it had proved that it knows the password",
            "28000",
        )
    return PeerError(f"the server sent {_NAMES[Code(code)]} where {awaiting.value} was due")


def _require_length(rest: bytes, length: int, code: Code) -> None:
    if len(rest) != length:
        raise PeerError(
            f"malformed {_NAMES[code]} from the server:"
            f" {len(rest)} bytes follow its code, {length} should"
        )


def _read_mechanisms(rest: bytes) -> list[bytes]:
    """Read AuthenticationSASL: names, each ended by a NUL, and an empty one at the end."""
    parts = rest.split(b"\0")
    if len(parts) < 2 or parts[-1] or parts[-2]:
        raise PeerError("malformed AuthenticationSASL from the server: its list does not end")
    names = parts[:-2]
    if not all(names):
        raise PeerError("malformed AuthenticationSASL from the server: an offer is empty")
    return names
