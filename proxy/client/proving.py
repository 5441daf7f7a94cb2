"""A client proves who it is."""

import logging
from collections.abc import Iterable

from proxy.auth import (
    Credential,
    Exchange,
    Md5Secret,
    PlainSecret,
    Secret,
    Verifiers,
    begin,
)
from proxy.client.startup import Startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError, PeerError
from proxy.relay import Client, next_message
from proxy.wire import messages

_log = logging.getLogger("pgweir.client")

# PostgreSQL: PG_MAX_AUTH_TOKEN_LENGTH.
_MOST_PASSWORD_BYTES = 65_535


async def prove(
    client: Client,
    startup: Startup,
    terms: DoorTerms,
    verifiers: Verifiers,
    before: Iterable[bytes],
) -> tuple[list[bytes], Credential | None]:
    """Hold the login conversation.

    before: what is to be sent ahead of it.
    Result: its last messages, still to be sent, and what the client gave away that can log in to a
    server as the same user. Raises ClientError, PeerError.
    """
    known = await _find_secret(startup, terms)
    exchange = begin(terms.method, startup.user, known, verifiers=verifiers)
    try:
        answer = await _converse(client, exchange, before)
    except ClientError:
        _log.debug(
            "login refused",
            extra={"facts": {"addr": client.address, "reason": exchange.refusal}},
        )
        if terms.directory is not None:
            terms.directory.doubt(terms.cluster_of(startup.database), startup.user)
        raise
    # What is kept logs in to servers, too, unless it only checks logins.
    return answer, known if isinstance(known, PlainSecret | Md5Secret) else exchange.proof


async def _find_secret(startup: Startup, terms: DoorTerms) -> Secret | None:
    """A user's secret: the configuration's, else what the database knows."""
    known = terms.roster.lookup(startup.user)
    if known is None and terms.directory is not None:
        known = await terms.directory.find(terms.cluster_of(startup.database), startup.user)
    return known


async def _converse(client: Client, exchange: Exchange, before: Iterable[bytes]) -> list[bytes]:
    pending = [messages.authentication(exchange.start())]
    while not exchange.done:
        client.write(b"".join([*before, *pending]))
        before = ()
        kind, body = await next_message(client, _MOST_PASSWORD_BYTES)
        if kind != b"p":
            raise PeerError(f"expected a password message, got {kind!r}")
        pending = [messages.authentication(each) for each in exchange.receive(body).send]
    return [*before, *pending]
