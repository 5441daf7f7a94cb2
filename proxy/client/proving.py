"""A client proves who it is: which way its rule says, and the way itself."""

import logging
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from proxy.auth import (
    METHODS,
    Facts,
    Interface,
    Md5Secret,
    PlainSecret,
    Rule,
    Secret,
    Verifiers,
    begin,
    refusal,
)
from proxy.auth.authentication import OK_BODY
from proxy.client.address import ip_of
from proxy.client.converse import converse
from proxy.client.interfaces import own_interfaces
from proxy.client.judged import JUDGES, Case, Proved
from proxy.client.startup import Startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError
from proxy.relay import Client
from proxy.tasks import in_thread
from proxy.unix import account_behind
from proxy.wire import messages

_log = logging.getLogger("pgweir.client")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One client's login. before: what is to be sent ahead of its conversation.

    rule: says the method, and has its options.
    """

    client: Client
    startup: Startup
    terms: DoorTerms
    verifiers: Verifiers
    before: Iterable[bytes]
    rule: Rule

    def refuse(self, error: ClientError, reason: str | None) -> ClientError:
        """Give the error back, and tell the log alone why."""
        _log.debug(
            "login refused",
            extra={
                "facts": {
                    "addr": self.client.address,
                    "reason": reason,
                    "rule": self.rule.origin,
                }
            },
        )
        return error


async def prove(
    client: Client,
    startup: Startup,
    terms: DoorTerms,
    verifiers: Verifiers,
    before: Iterable[bytes],
) -> Proved:
    """Hold the login conversation that the rule for this connection asks for.

    before: what is to be sent ahead of it. Raises ClientError, PeerError.
    """
    facts = Facts(
        startup.database,
        startup.user,
        startup.replicates_physically,
        ip_of(client.address),
        client.tls_version is not None,
    )
    rule = terms.admission.rules.pick(facts, _own_interfaces)
    if rule is None or rule.method == "reject":
        raise refusal(rule, facts)
    attempt = Attempt(client, startup, terms, verifiers, before, rule)
    _check_certificate(attempt)
    return await WAYS[rule.method](attempt)


def _own_interfaces() -> tuple[Interface, ...]:
    try:
        return own_interfaces()
    except OSError as error:
        # To go on without them could pass by a rule that rejects.
        raise ClientError(
            "58000",
            "the proxy cannot read its own addresses, which a rule for logins asks for",
            detail=error.strerror,
        ) from error


async def _by_exchange(attempt: Attempt) -> Proved:
    """By a password, or by trust."""
    terms, startup = attempt.terms, attempt.startup
    known = await _find_secret(startup, terms)
    exchange = begin(
        attempt.rule.method,
        startup.user,
        known,
        verifiers=attempt.verifiers,
        is_listed=startup.user in terms.roster,
        endpoint=None if startup.tls is None else startup.tls.endpoint,
    )
    try:
        answer = await converse(attempt.client, exchange, attempt.before)
    except ClientError as refused:
        if terms.directory is not None:
            terms.directory.doubt(terms.cluster_of(startup.database), startup.user)
        raise attempt.refuse(refused, exchange.refusal) from None
    return answer, _usable(known) or exchange.proof


async def _find_secret(startup: Startup, terms: DoorTerms) -> Secret | None:
    """A user's secret: the configuration's, else what the database knows."""
    known = terms.roster.lookup(startup.user)
    if known is None and terms.directory is not None:
        known = await terms.directory.find(terms.cluster_of(startup.database), startup.user)
    return known


def _usable(known: Secret | None) -> PlainSecret | Md5Secret | None:
    """What is kept logs in to servers, too, unless it only checks logins."""
    return known if isinstance(known, PlainSecret | Md5Secret) else None


async def _by_certificate(attempt: Attempt) -> Proved:
    """By what `_check_certificate` has seen."""
    return await _enter_vouched(attempt, "certificate")


async def _by_peer(attempt: Attempt) -> Proved:
    """By the account at the other end of a Unix socket."""
    account = await _account_of(attempt.client)
    user = attempt.startup.user
    if not attempt.terms.admission.allows(attempt.rule, account, user):
        raise attempt.refuse(_failed("Peer", user), f"the account at the other end is {account!r}")
    return await _enter_vouched(attempt, "Peer")


async def _enter_vouched(attempt: Attempt, what: str) -> Proved:
    """Let in a user whose name somebody vouches for, if there is such a user."""
    user = attempt.startup.user
    known = await _find_secret(attempt.startup, attempt.terms)
    if known is None and user not in attempt.terms.roster:
        raise attempt.refuse(_failed(what, user), "no such user")
    return [*attempt.before, messages.authentication(OK_BODY)], _usable(known)


def _check_certificate(attempt: Attempt) -> None:
    """Raises ClientError (28000) where a rule asks for another certificate than was shown."""
    rule, startup = attempt.rule, attempt.startup
    if rule.certificate is None:
        return
    tls = startup.tls
    if tls is None or not tls.has_certificate:
        raise ClientError(
            "28000",
            "connection requires a valid client certificate",
            hint="Connect with sslcert and sslkey.",
        )
    if rule.certificate == "verify-ca":
        return
    by_subject = rule.options.get("clientname") == "DN"
    name = (tls.peer_distinguished_name if by_subject else tls.peer_common_name) or ""
    if not attempt.terms.admission.allows(rule, name, startup.user):
        raise attempt.refuse(_failed("certificate", startup.user), f'it is for "{name}"')


def _failed(what: str, user: str) -> ClientError:
    """PostgreSQL's words."""
    return ClientError("28000", f'{what} authentication failed for user "{user}"')


def is_own_account(client: Client) -> bool:
    """Whether it comes over a Unix socket, from a process of the account that runs this one.

    Such a process could as well read our memory: there is nothing left for it to prove.
    """
    with socket.socket(fileno=os.dup(client.fileno)) as end:
        is_unix = end.family == socket.AF_UNIX
    # A balancer's header may have said otherwise.
    return is_unix and client.address == "unix:" and account_behind(client.fileno) == os.geteuid()


async def _account_of(client: Client) -> str:
    """The name of the account at the other end, empty where it has none."""
    uid = account_behind(client.fileno)
    try:
        # The accounts may be kept in a directory that takes its time.
        entry = await in_thread(pwd.getpwuid, uid)
    except KeyError:
        return ""
    return entry.pw_name


async def _by_judge(attempt: Attempt) -> Proved:
    """By the word of somebody else."""
    admission, rule, user = attempt.terms.admission, attempt.rule, attempt.startup.user
    case = Case(
        attempt.client,
        attempt.startup,
        attempt.terms.judges,
        attempt.before,
        rule.options,
        lambda known_as: admission.allows(rule, known_as, user),
        attempt.refuse,
    )
    return await JUDGES[rule.method](case)


WAYS: Mapping[str, Callable[[Attempt], Awaitable[Proved]]] = {
    **dict.fromkeys(METHODS, _by_exchange),
    "cert": _by_certificate,
    "peer": _by_peer,
    **dict.fromkeys(JUDGES, _by_judge),
}
"""How each method is carried out; `reject` is none."""
