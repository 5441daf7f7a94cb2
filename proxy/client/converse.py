"""Holds the conversation of a login: carries messages between a client and an exchange."""

from collections.abc import Awaitable, Callable, Iterable

from proxy.auth import DelegatedExchange, Exchange, Reply
from proxy.errors import PeerError, ProxyBug
from proxy.relay import Client, next_message
from proxy.wire import messages

# PostgreSQL: PG_MAX_AUTH_TOKEN_LENGTH.
_MOST_PASSWORD_BYTES = 65_535

Judge = Callable[[str], Awaitable[str | None]]
"""Says of a password or token None when it is right, else why not, for the log."""


async def converse(
    client: Client, exchange: Exchange, before: Iterable[bytes], judge: Judge | None = None
) -> list[bytes]:
    """Hold it to its end. Result: the last messages, still to be sent.

    before: what is to be sent ahead of it. judge: answers a delegated exchange's questions.
    Raises ClientError, PeerError.
    """
    pending = [messages.authentication(exchange.start())]
    while not exchange.done:
        client.write(b"".join([*before, *pending]))
        before = ()
        kind, body = await next_message(client, _MOST_PASSWORD_BYTES)
        if kind != b"p":
            raise PeerError(f"expected a password message, got {kind!r}")
        reply = exchange.receive(body)
        if isinstance(exchange, DelegatedExchange) and exchange.question is not None:
            reply = await _settle(exchange, exchange.question, judge)
        pending = [messages.authentication(each) for each in reply.send]
    return [*before, *pending]


async def _settle(exchange: DelegatedExchange, question: str, judge: Judge | None) -> Reply:
    if judge is None:
        raise ProxyBug("nobody was told to judge this login")
    return exchange.settle(await judge(question))
