"""Logins that somebody else judges: a directory, PAM, the issuer of a token. The conversation only.

Such an exchange takes what the client sends, and then there is a `question`: the password, or the
token. Who drives it has the question answered, however long that takes, and hands the verdict to
`settle`:

    reply = exchange.receive(body)
    if exchange.question is not None:
        reply = exchange.settle(await judge(exchange.question))

What is asked for travels in clear, so the driver sees to it that the way is private.

Source: PostgreSQL documentation, "SASL Authentication" (OAUTHBEARER Authentication); RFC 7628.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from proxy.auth.authentication import CLEARTEXT_BODY, SASL_CONTINUE_PREFIX, Code
from proxy.auth.exchange import Exchange, Reply, read_initial_response, read_password
from proxy.auth.secrets import PlainSecret
from proxy.errors import ClientError, PeerError, ProxyBug

MECHANISM = b"OAUTHBEARER"
BEARER_BODY = int(Code.SASL).to_bytes(4) + MECHANISM + b"\0\0"

_SEPARATOR = b"\x01"
_KEY = re.compile(rb"[A-Za-z]+")
_VALUE = re.compile(rb"[\x21-\x7e \t\r\n]*")
# RFC 6750, section 2.1: b64token.
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")


class AskedTheWay(ClientError):  # noqa: N818 -- what happened, not an error of ours
    """A client without a token was told where to get one. It guessed nothing, and will be back."""


class DelegatedExchange(Exchange):
    """A login whose question somebody else answers.

    what: `LDAP`, `PAM` or `OAuth bearer`, for the refusal. question: what to ask, once it is known.
    """

    __slots__ = ("_what", "question")

    def __init__(self, what: str, user: str) -> None:
        super().__init__(user)
        self._what = what
        self.question: str | None = None

    def settle(self, refusal: str | None) -> Reply:
        """Go on by the verdict: None when it is right, else why not, for the log.

        Raises ClientError (28000) where the login ends with it.
        """
        if self.question is None:
            raise ProxyBug("a verdict came, and nothing had been asked")
        question, self.question = self.question, None
        return self._settle(question, refusal)

    def _settle(self, question: str, refusal: str | None) -> Reply:
        raise NotImplementedError

    def _turn_away(self, reason: str) -> ClientError:
        self.refusal = reason
        return ClientError("28000", f'{self._what} authentication failed for user "{self.user}"')


class ClearPasswordExchange(DelegatedExchange):
    """Asks for the password. Its proof is that password: the server may ask for the same one."""

    __slots__ = ()

    def start(self) -> bytes:
        """Ask for it."""
        return CLEARTEXT_BODY

    def _answer(self, body: bytes) -> Reply:
        raw = read_password(body)
        if not raw:
            # A directory takes a bind without a password for an anonymous one, and accepts it.
            raise self._turn_away("the password sent is empty")
        self.question = raw.decode("utf-8", "surrogateescape")
        return Reply((), False)

    def _settle(self, question: str, refusal: str | None) -> Reply:
        if refusal is not None:
            raise self._turn_away(refusal)
        self.proof = PlainSecret(question)
        return self._accept()


class _Awaiting(Enum):
    MECHANISM = auto()
    TOKEN = auto()
    FAREWELL = auto()


@dataclass(frozen=True, slots=True)
class Signpost:
    """Where a client without a token gets one. configuration: URL. scope: separated by spaces."""

    configuration: str
    scope: str

    def write(self) -> bytes:
        """The server's message to a client whose token will not do. RFC 7628, section 3.2.2."""
        said = {
            "status": "invalid_token",
            "openid-configuration": self.configuration,
            "scope": self.scope,
        }
        return json.dumps(said).encode()


class BearerExchange(DelegatedExchange):
    """OAUTHBEARER.

    MECHANISM --SASLInitialResponse--> the question --right--> done
        |                                  \\--wrong, or no token: the signpost--> FAREWELL
        \\--the same without data--> TOKEN --SASLResponse--> the question …
    FAREWELL --SASLResponse, one separator--> refused
    """

    __slots__ = ("_awaiting", "_had_token", "_reason", "_signpost")

    def __init__(self, user: str, signpost: Signpost) -> None:
        super().__init__("OAuth bearer", user)
        self._signpost = signpost
        self._awaiting = _Awaiting.MECHANISM
        self._reason = ""
        self._had_token = False

    def start(self) -> bytes:
        """Offer the one mechanism."""
        return BEARER_BODY

    def _answer(self, body: bytes) -> Reply:
        return _BEARER_STEPS[self._awaiting](self, body)

    def _choose_mechanism(self, body: bytes) -> Reply:
        _, first = read_initial_response(body, (MECHANISM,))
        self._awaiting = _Awaiting.TOKEN
        return Reply((SASL_CONTINUE_PREFIX,), False) if first is None else self._take_token(first)

    def _take_token(self, message: bytes) -> Reply:
        token = _read_token(message)
        if token is None:
            return self._point_the_way("no token; the client asks where to get one")
        self._had_token = True
        if not token:
            return self._point_the_way("what was sent is no bearer token")
        self.question = token
        return Reply((), False)

    def _settle(self, question: str, refusal: str | None) -> Reply:
        return self._accept() if refusal is None else self._point_the_way(refusal)

    def _point_the_way(self, reason: str) -> Reply:
        self._reason = reason
        self._awaiting = _Awaiting.FAREWELL
        return Reply((SASL_CONTINUE_PREFIX + self._signpost.write(),), False)

    def _take_leave(self, message: bytes) -> Reply:
        # RFC 7628, section 3.2.3: a client answers the error with one separator, and is refused.
        if message != _SEPARATOR:
            raise PeerError("malformed OAUTHBEARER message: the client did not end the exchange")
        refused = self._turn_away(self._reason)
        raise refused if self._had_token else AskedTheWay(refused.sqlstate, refused.message)


_BEARER_STEPS: dict[_Awaiting, Callable[[BearerExchange, bytes], Reply]] = {
    _Awaiting.MECHANISM: BearerExchange._choose_mechanism,
    _Awaiting.TOKEN: BearerExchange._take_token,
    _Awaiting.FAREWELL: BearerExchange._take_leave,
}


def _read_token(message: bytes) -> str | None:
    """Read a client's first message; None when it asks for the way to a token.

    RFC 7628, section 3.1: gs2-header, then key=value pairs each ended by a separator, and one more.
    """
    header, _, pairs = message.partition(_SEPARATOR)
    if header.startswith(b"p"):
        raise PeerError("malformed OAUTHBEARER message: channel binding is not offered")
    if header[2:3] == b"a":
        raise PeerError(
            "the client uses an authorization identity, which is not supported", "0A000"
        )
    if header not in (b"n,,", b"y,,"):
        raise PeerError("malformed OAUTHBEARER message: it does not begin with n,,")
    if not pairs.endswith(2 * _SEPARATOR):
        raise PeerError("malformed OAUTHBEARER message: it does not end")
    found: bytes | None = None
    for pair in pairs[:-2].split(_SEPARATOR):
        key, equals, value = pair.partition(b"=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise PeerError("malformed OAUTHBEARER message: a pair is not key=value")
        if key == b"auth":
            if found is not None:
                raise PeerError("malformed OAUTHBEARER message: it has two auth values")
            found = value
    if found is None:
        raise PeerError("malformed OAUTHBEARER message: it has no auth value")
    return _read_authorization(found)


def _read_authorization(value: bytes) -> str | None:
    """The token of `Bearer TOKEN`, an empty text for one that is no token, None for no value."""
    if not value:
        return None
    scheme, _, token = value.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not _TOKEN.fullmatch(token):
        return ""
    return token.decode("ascii")
