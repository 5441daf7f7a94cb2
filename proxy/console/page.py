"""The status page: a file of HTML, one of CSS, one of JavaScript, and the figures as JSON.

Nothing on it comes from elsewhere, and the browser is told to load nothing from elsewhere (Content
Security Policy). Who keeps it open is sent the figures once a second, as server-sent events; they
are put together once for everybody who looks, and not at all while nobody does.
Source of the events' format: WHATWG, HTML, "Server-sent events".
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from proxy.console.status import Json, latest

INTERVAL_S = 1.0
MAX_AGE_S = 0.5
"""A status is not put together more often than this, however many ask."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class StatusPage:
    """What is served at `/` and below `/api`.

    read: puts the figures together. prepare: awaited before, to ask the other processes.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        read: Callable[[], Json],
        prepare: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._prepare = prepare
        self._clock = clock
        self._one_reading = asyncio.Lock()
        self._status: Json = {}
        self._read_at_s = -MAX_AGE_S
        self._files = {
            path: ((Path(__file__).parent / name).read_bytes(), content_type)
            for path, (name, content_type) in _ASSETS.items()
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """Files there are."""
        return tuple(self._files)

    def file(self, path: str) -> web.Response:
        """One of the files."""
        body, content_type = self._files[path]
        response = web.Response(body=body, content_type=content_type, charset="utf-8")
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def status(self) -> web.Response:
        """All figures, with the points of the last minutes."""
        return web.Response(
            body=_as_json(await self._current()), content_type="application/json", charset="utf-8"
        )

    async def stream(
        self,
        request: web.Request,
        stopped: asyncio.Event,
        prolong: Callable[[asyncio.BaseTransport | None], None],
    ) -> web.StreamResponse:
        """Send the figures once a second, each time with the newest point only, until `stopped`.

        prolong: called when the visitor has taken what was sent: he may stay a while longer.
        """
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would collect them
        response.force_close()
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n")
        while not stopped.is_set():
            await response.write(b"data: " + _as_json(latest(await self._current())) + b"\n\n")
            prolong(request.transport)
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await stopped.wait()
            except TimeoutError:
                continue
        return response

    async def _current(self) -> Json:
        async with self._one_reading:
            if self._clock() - self._read_at_s >= MAX_AGE_S:
                if self._prepare is not None:
                    await self._prepare()
                self._status = self._read()
                self._read_at_s = self._clock()
            return self._status


def _as_json(status: Json) -> bytes:
    # What is not UTF-8 in a name has become a lone surrogate, which no reader of JSON takes.
    return json.dumps(status).encode("ascii")
