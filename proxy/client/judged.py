"""Logins that are judged elsewhere: by a directory (LDAP), by PAM, by the issuer of a token.

Each way is a coroutine over a `Case`. What a client sends here is worth stealing, so it is asked
for only where nobody listens, unless the operator says otherwise. What judges is loaded when it is
first asked for: each is an optional part.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.auth import (
    BearerExchange,
    ClearPasswordExchange,
    Credential,
    DelegatedExchange,
    Signpost,
)
from proxy.client.address import ip_of
from proxy.client.aside import Aside
from proxy.client.converse import Judge, converse
from proxy.client.startup import Startup
from proxy.config import Auth, Oauth
from proxy.errors import ClientError, ProxyBug
from proxy.relay import Client
from proxy.telemetry import LimitedLog

if TYPE_CHECKING:
    from proxy.auth.tokens import KeySet
    from proxy.client.issuer import IssuerKeys

_log = logging.getLogger("pgweir.client")


class Judges:
    """Who is asked, and how: one for each reading of the configuration.

    clock: monotonic seconds.
    """

    def __init__(self, auth: Auth, clock: Callable[[], float]) -> None:
        self.auth = auth
        self.directories = Aside()
        self.pam = Aside()
        self._clock = clock
        self._lines = LimitedLog(_log, clock)
        self._issuers: dict[Oauth, IssuerKeys] = {}

    def tick(self) -> None:
        """Once in a while: say what was left out of the log."""
        self._lines.report_ended()

    def no_verdict(self, what: str, reason: str) -> ClientError:
        """Make the refusal of a login that nobody can judge, and log why.

        what: who was asked.
        """
        self._lines.log(logging.ERROR, "a login cannot be judged", {"by": what, "reason": reason})
        return ClientError(
            "08001",
            f"this login cannot be judged: {what} cannot be asked",
            hint="Try again; the proxy's log says why.",
        )

    def keys_of(self, oauth: Oauth) -> "IssuerKeys":
        """The keys of an issuer."""
        from proxy.client.issuer import IssuerKeys  # noqa: PLC0415 -- PyJWT is an extra

        keys = self._issuers.get(oauth)
        if keys is None:
            keys = IssuerKeys(
                oauth.issuer or "",
                url=oauth.jwks_url,
                file=oauth.jwks_file,
                ca=oauth.ca,
                timeout_s=oauth.timeout,
                clock=self._clock,
            )
            self._issuers[oauth] = keys
        return keys


@dataclass(frozen=True, slots=True)
class Case:
    """One client's login. before: what is to be sent ahead of its conversation.

    options: what the rule for this connection says about the method. allows: whether who is known
    elsewhere under a name may be this user. refuse: gives the refusal back, and logs the reason.
    """

    client: Client
    startup: Startup
    judges: Judges
    before: Iterable[bytes]
    options: Mapping[str, str]
    allows: Callable[[str], bool]
    refuse: Callable[[ClientError, str | None], ClientError]


Proved = tuple[list[bytes], Credential | None]
"""The last messages of a login, still to be sent, and what the client gave away that can log in to
a server as the same user."""


async def _by_ldap(case: Case) -> Proved:
    ldap = case.judges.auth.ldap.for_rule(case.options)
    user = case.startup.user

    async def judge(password: str) -> str | None:
        from proxy.client.directory_bind import (  # noqa: PLC0415 -- python-ldap is an extra
            DirectoryError,
            ask_directory,
        )

        try:
            return await case.judges.directories.run(
                lambda: ask_directory(ldap, user, password), ldap.timeout
            )
        except DirectoryError as error:
            raise case.judges.no_verdict("LDAP", str(error)) from None
        except TimeoutError:
            raise case.judges.no_verdict("LDAP", "no answer in time") from None

    return await _hold(case, ClearPasswordExchange("LDAP", user), judge)


async def _by_pam(case: Case) -> Proved:
    pam = case.judges.auth.pam.for_rule(case.options)
    user = case.startup.user

    async def judge(password: str) -> str | None:
        from proxy.client.pam_question import ask_pam  # noqa: PLC0415 -- python-pam is an extra

        try:
            return await case.judges.pam.run(
                lambda: ask_pam(pam.pamservice, user, password), pam.timeout
            )
        except TimeoutError:
            raise case.judges.no_verdict("PAM", "no answer in time") from None

    return await _hold(case, ClearPasswordExchange("PAM", user), judge)


async def _by_oauth(case: Case) -> Proved:
    from proxy.auth.tokens import (  # noqa: PLC0415 -- PyJWT is an extra
        TokenError,
        TokenRules,
        check_token,
        issuer_of,
        signpost_url,
    )

    oauth = case.judges.auth.oauth.for_rule(case.options)
    if oauth.issuer is None or oauth.audience is None:
        raise ProxyBug("a login by token without issuer and audience: load should have refused it")
    rules = TokenRules(
        issuer_of(oauth.issuer),
        oauth.audience,
        frozenset(oauth.scope.split()),
        frozenset(oauth.algorithms),
        oauth.claim,
        oauth.leeway,
    )

    async def judge(token: str) -> str | None:
        def check(keys: "KeySet") -> str:
            return check_token(token, keys, rules)

        try:
            identity = await case.judges.keys_of(oauth).use(check)
        except TokenError as error:
            return f"the token will not do: {error}"
        if identity is None:
            raise case.judges.no_verdict("OAuth", "the issuer's keys are not known")
        return None if case.allows(identity) else f'the token is of "{identity}"'

    exchange = BearerExchange(case.startup.user, Signpost(signpost_url(oauth.issuer), oauth.scope))
    return await _hold(case, exchange, judge)


JUDGES: Mapping[str, Callable[[Case], Awaitable[Proved]]] = {
    "ldap": _by_ldap,
    "pam": _by_pam,
    "oauth": _by_oauth,
}
"""How each of these methods is carried out. Raises ClientError, PeerError."""


async def _hold(case: Case, exchange: DelegatedExchange, judge: Judge) -> Proved:
    if not case.judges.auth.allow_cleartext and not _is_private(case.client):
        raise ClientError(
            "28000",
            "this login sends a password or token in clear, and this connection is not encrypted",
            hint="Connect with sslmode=require.",
        )
    try:
        answer = await converse(case.client, exchange, case.before, judge)
    except ClientError as refused:
        if exchange.refusal is None:
            raise  # nobody has judged
        raise case.refuse(refused, exchange.refusal) from None
    return answer, exchange.proof


def _is_private(client: Client) -> bool:
    if client.tls_version is not None:
        return True
    ip = ip_of(client.address)
    return ip is None or ip.is_loopback
