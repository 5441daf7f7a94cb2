"""Bounds on what a stranger's HTTP connection may cost, set around aiohttp's protocol.

One connection is one visit: one request, one answer, a few seconds, a few kilobytes. aiohttp bounds
a header's length and an idle connection's age, but not slow readers, slow senders and numbers.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class VisitLimits:
    """max_open: connections at once; the oldest goes when one more comes, so a crowd that only
    holds connections open cannot keep a health check out. deadline_s: from accept until the last
    byte of the answer is gone, or since a listener to events took the last one.
    max_request_bytes: all that a visitor may send."""

    max_open: int = 64
    deadline_s: float = 10.0
    max_request_bytes: int = 16 * 1024


class Visits:
    """The open connections of one endpoint. make_protocol: aiohttp's protocol, one for each."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol], limits: VisitLimits) -> None:
        self.limits = limits
        self._make_protocol = make_protocol
        self._open: dict[_Visit, None] = {}  # in order of arrival

    def __call__(self) -> asyncio.Protocol:
        """A protocol for one accepted connection, for `loop.create_server`."""
        return _Visit(self, self._make_protocol())

    def __len__(self) -> int:
        return len(self._open)

    def abort_all(self) -> None:
        """Drop every connection, answered or not."""
        for visit in list(self._open):
            visit.abort()

    def prolong(self, transport: asyncio.BaseTransport | None) -> None:
        """Let the visit that this connection is begin its time anew."""
        for visit in self._open:
            if visit.has(transport):
                visit.prolong()
                return

    def enter(self, visit: "_Visit") -> None:
        """Count a connection in, and the oldest out when there is one too many."""
        self._open[visit] = None
        if len(self._open) > self.limits.max_open:
            next(iter(self._open)).abort()

    def leave(self, visit: "_Visit") -> None:
        """Count a connection out; twice does no harm."""
        self._open.pop(visit, None)


class _Visit(asyncio.Protocol):
    """Passes events on to aiohttp's protocol until a limit is reached."""

    def __init__(self, visits: Visits, inner: asyncio.Protocol) -> None:
        self._visits = visits
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._received_bytes = 0

    def abort(self) -> None:
        """Drop the connection with whatever is still unsent: its reader had the time."""
        self._visits.leave(self)
        if self._transport is not None:
            self._transport.abort()

    def has(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether it goes by this connection."""
        return self._transport is transport

    def prolong(self) -> None:
        """Count its time from now."""
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._visits.limits.deadline_s, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._visits.limits.deadline_s, self.abort)
        self._inner.connection_made(transport)
        self._visits.enter(self)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > self._visits.limits.max_request_bytes:
            self.abort()
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool:
        """Keep our side open for the answer to a request, if there was one."""
        self._inner.eof_received()
        return self._received_bytes > 0

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._visits.leave(self)
        self._inner.connection_lost(exc)
