"""A client proves who it is."""

import logging
from collections.abc import Iterable

from proxy.auth import Credential, Exchange, Verifiers, begin
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
    exchange = begin(
        terms.method,
        startup.user,
        terms.roster.lookup(startup.user),
        verifiers=verifiers,
    )
    try:
        answer = await _converse(client, exchange, before)
    except ClientError:
        _log.debug(
            "login refused",
            extra={"facts": {"addr": client.address, "reason": exchange.refusal}},
        )
        raise
    return answer, exchange.proof


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
