"""The HTTP endpoint: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes,
the status page for people.

It runs on the event loop of the relay, so it must stay cheap whatever visitors do: see `visits.py`
for what one connection may cost and `exposition.py` for how a scrape is cut into slices. It knows
nothing of the proxy but the registry, the page and the questions it is given; `workers` builds it.
"""

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import gzip_accepted

from proxy.config import HttpAuth
from proxy.console.access import challenge, is_allowed
from proxy.console.exposition import render
from proxy.console.page import StatusPage
from proxy.console.visits import VisitLimits, Visits
from proxy.telemetry import LimitedLog

MAX_HEADER_BYTES = 4096
"""A request line or a header field; Prometheus sends a tenth of it."""

MAX_DELAY_S = 3600

_log = logging.getLogger("pgweir.http")

_SILENT = logging.Logger("pgweir.http.aiohttp", logging.CRITICAL + 1)
"""aiohttp logs a traceback for every malformed request; strangers may not write our log."""

_FOR_EVERYBODY = frozenset({"/healthz", "/readyz"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpEndpoint:
    """Serves /metrics, /healthz and /readyz, and a status page where there is one.

    port: 0 for any free one. is_serving: whether the process serves at all. is_ready: None when it
    accepts clients and a primary is reachable, else the reason why not, for the operator to read.
    page: the status page. drain: empties the proxy after so many seconds, and says how many clients
    there are; on_drain: called with who asked for that, how, and "ok" or the status. auth: asked at
    each request who may see more than the health. limits: what visitors may cost. prepare: is
    waited for before each scrape.
    sock: listens already, in place of host and port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        is_serving: Callable[[], bool],
        is_ready: Callable[[], str | None],
        *,
        page: StatusPage | None = None,
        auth: Callable[[], HttpAuth | None] = lambda: None,
        drain: Callable[[float], int] | None = None,
        on_drain: Callable[[str, str, str], None] = lambda _addr, _target, _result: None,
        limits: VisitLimits | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self._prepare = prepare
        self._sock = sock
        self._host = host
        self._port = port
        self._registry = registry
        self._is_serving = is_serving
        self._is_ready = is_ready
        self._page = page
        self._auth = auth
        self._drain = drain
        self._on_drain = on_drain
        self._stopped = asyncio.Event()
        self._limits = limits or VisitLimits()
        self._one_scrape = asyncio.Lock()
        self._failures = LimitedLog(_log, time.monotonic, burst=3)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._visits: Visits | None = None

    @property
    def port(self) -> int:
        """The port it listens on; before `start` the one that was asked for."""
        if self._server is not None and self._server.sockets:
            listening_port: int = self._server.sockets[0].getsockname()[1]
            return listening_port
        return self._port

    @property
    def descriptors(self) -> list[int]:
        """Of the sockets it listens on."""
        return [] if self._server is None else [each.fileno() for each in self._server.sockets]

    def __len__(self) -> int:
        """Connections open now."""
        return 0 if self._visits is None else len(self._visits)

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be bound."""
        runner = web.AppRunner(
            self._build_application(),
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=self._limits.deadline_s,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            read_bufsize=MAX_HEADER_BYTES,
            lingering_time=1.0,  # read a body's rest, so that closing does not reset the answer
            auto_decompress=False,
            handler_cancellation=True,  # who has left does not wait for a turn at scraping
            shutdown_timeout=1.0,
        )
        await runner.setup()
        make_protocol = runner.server
        assert make_protocol is not None  # noqa: S101 -- setup() has just made it
        visits = Visits(make_protocol, self._limits)
        try:
            self._server = await self._listen(visits)
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self._visits = runner, visits
        self._stopped.clear()

    async def _listen(self, visits: Visits) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            return await loop.create_server(visits, sock=self._sock)
        try:
            address = ipaddress.ip_address(self._host)
        except ValueError:
            return await loop.create_server(visits, self._host, self._port)
        # An address needs no looking up, for which the loop would start threads and keep them.
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        sock = socket.create_server((self._host, self._port), family=family)
        return await loop.create_server(visits, sock=sock)

    async def stop(self) -> None:
        """Stop listening, give answers under way a second, drop the rest. Twice does no harm."""
        server, runner, visits = self._server, self._runner, self._visits
        self._server = self._runner = self._visits = None
        if server is None or runner is None or visits is None:
            return
        server.close()
        self._stopped.set()
        await runner.cleanup()
        visits.abort_all()
        await server.wait_closed()
        self._failures.report_all()

    def _build_application(self) -> web.Application:
        application = web.Application(middlewares=[self._answer_once])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        if self._drain is not None:
            application.router.add_post("/drain", self._begin_drain)
        if (page := self._page) is not None:
            for path in page.paths:
                application.router.add_get(path, self._file)
            application.router.add_get("/api/status", self._status)
            application.router.add_get("/api/events", self._events)
        return application

    @web.middleware
    async def _answer_once(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The top of every request's task: one answer, whatever happens, and the connection ends.

        A connection for one request has one deadline and no pipeline; a scraper does not mind.
        """
        response: web.StreamResponse
        is_drain = request.path == "/drain" and self._drain is not None
        if is_drain and request.method != "POST":
            response = _text(405, "only POST")
            response.headers["Allow"] = "POST"
        elif not is_drain and request.method not in {"GET", "HEAD"}:
            response = _text(405, "only GET and HEAD")
            response.headers["Allow"] = "GET, HEAD"
        elif (refusal := self._refusal(request)) is not None:
            response = refusal
        else:
            try:
                response = await handler(request)
            except web.HTTPNotFound:
                response = _text(404, "there are /, /metrics, /healthz, /readyz and /api/status")
            except Exception as failure:  # noqa: BLE001 -- the top of the task
                self._failures.log(
                    logging.ERROR,
                    "http request failed",
                    {"path": request.path},
                    failure,
                )
                response = _text(500, "this is a bug; the log says more")
        if is_drain and request.method == "POST":
            result = "ok" if response.status == HTTPStatus.ACCEPTED else str(response.status)
            self._on_drain(request.remote or "unknown", request.path_qs, result)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.force_close()
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        """The answer to who may not see this, or None."""
        if request.path in _FOR_EVERYBODY:
            return None
        if request.path == "/drain" and self._drain is not None:
            return self._drain_refusal(request)
        auth = self._auth()
        if auth is None or is_allowed(auth, request.headers.get("Authorization", "")):
            return None
        response = _text(401, "name and password, or a token, are needed; see http.auth")
        response.headers["WWW-Authenticate"] = challenge(auth)
        return response

    def _drain_refusal(self, request: web.Request) -> web.Response | None:
        """Who may drain: this machine, and who has shown the password or token."""
        if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            # Any page in a browser on this machine could send it here.
            return _text(403, "not from a browser")
        auth = self._auth()
        authorization = request.headers.get("Authorization", "")
        if _is_loopback(request.remote) or (auth is not None and is_allowed(auth, authorization)):
            return None
        return _text(403, "only from this machine, or with what http.auth asks for")

    async def _begin_drain(self, request: web.Request) -> web.Response:
        assert self._drain is not None  # noqa: S101 -- else there is no such route
        try:
            after_s = float(request.query.get("after", "0"))
        except ValueError:
            return _text(400, "after: write a number of seconds")
        if not 0 <= after_s <= MAX_DELAY_S:
            return _text(400, f"after: write 0 to {MAX_DELAY_S}")
        return web.json_response({"draining": True, "clients": self._drain(after_s)}, status=202)

    async def _file(self, request: web.Request) -> web.Response:
        assert self._page is not None  # noqa: S101 -- else there is no such route
        return self._page.file(request.path)

    async def _status(self, _request: web.Request) -> web.Response:
        assert self._page is not None  # noqa: S101
        return await self._page.status()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        assert self._page is not None  # noqa: S101
        visits = self._visits
        assert visits is not None  # noqa: S101 -- the request came by one
        return await self._page.stream(request, self._stopped, visits.prolong)

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        compress = gzip_accepted(",".join(request.headers.getall("Accept-Encoding", [])))
        async with self._one_scrape:  # many scrapers at once get no more of the loop than one
            if self._prepare is not None:
                await self._prepare()
            exposition = await render(self._registry, accept, compress=compress)
        response = web.Response(body=exposition.body)
        response.headers["Content-Type"] = exposition.content_type
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if compress:
            response.headers["Content-Encoding"] = "gzip"
        return response

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _text(200, "ok") if self._is_serving() else _text(503, "not serving")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._is_ready()
        return _text(200, "ready") if reason is None else _text(503, reason)


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _text(status: int, line: str) -> web.Response:
    return web.Response(
        status=status,
        body=f"{line}\n".encode("utf-8", "backslashreplace"),
        content_type="text/plain",
        charset="utf-8",
    )
