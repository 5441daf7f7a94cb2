"""/metrics and health over real HTTP, for polite visitors and for the others."""

import asyncio
import gzip
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.console import HttpEndpoint
from proxy.console.visits import VisitLimits, Visits
from proxy.telemetry import Figures, build_registry

DEADLINE_S = 10.0
"""How long a test waits for a fact."""

ALICE_AND_MANY = Figures(
    version="1.2.3",
    transactions={f"db{number}": number for number in range(1000)},
    client_connections={("app", "alice", "idle"): 3},
)


class Proxy:
    """What the endpoint asks about, to be set by a test."""

    def __init__(self) -> None:
        self.figures = ALICE_AND_MANY
        self.failure: Exception | None = None
        self.serving = True
        self.not_ready: str | None = None
        self.while_reading: Callable[[], None] = lambda: None

    def read(self) -> Figures:
        self.while_reading()
        if self.failure is not None:
            raise self.failure
        return self.figures


@asynccontextmanager
async def endpoint_of(
    proxy: Proxy, limits: VisitLimits | None = None
) -> AsyncIterator[HttpEndpoint]:
    endpoint = HttpEndpoint(
        "127.0.0.1",
        0,
        build_registry(proxy.read),
        lambda: proxy.serving,
        lambda: proxy.not_ready,
        limits=limits,
    )
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.stop()


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
async def endpoint(proxy: Proxy) -> AsyncIterator[HttpEndpoint]:
    async with endpoint_of(proxy) as endpoint:
        yield endpoint


async def ask(
    endpoint: HttpEndpoint,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body as sent, not decompressed."""
    async with (
        ClientSession(auto_decompress=False) as session,
        asyncio.timeout(DEADLINE_S),
        session.request(
            method,
            f"http://127.0.0.1:{endpoint.port}{path}",
            headers=headers,
            skip_auto_headers=("Accept-Encoding",),
        ) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


async def converse(endpoint: HttpEndpoint, sent: bytes) -> bytes:
    """All that comes back for these bytes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(sent)
            return await reader.read()
    finally:
        writer.close()


async def until(fact: Callable[[], bool]) -> None:
    """Wait until the fact is there; raises TimeoutError when it does not come."""
    async with asyncio.timeout(DEADLINE_S):
        while not fact():  # noqa: ASYNC110 -- nobody announces it
            await asyncio.sleep(0)


async def is_dropped(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, by a close or a reset, without an answer."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read() == b""
    except ConnectionResetError:
        return True


# Metrics


async def test_metrics_are_read_by_prometheus_s_parser(endpoint: HttpEndpoint) -> None:
    _, _, body = await ask(endpoint, "/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }
    assert samples["pgweir_client_connections", "app", "idle", "alice"] == 3


async def test_metrics_are_plain_text_where_nothing_else_is_asked_for(
    endpoint: HttpEndpoint,
) -> None:
    _, headers, _ = await ask(endpoint, "/metrics")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


async def test_openmetrics_is_sent_where_it_is_asked_for(endpoint: HttpEndpoint) -> None:
    _, headers, _ = await ask(endpoint, "/metrics", headers=OPENMETRICS)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")


async def test_openmetrics_is_read_by_its_own_parser(endpoint: HttpEndpoint) -> None:
    _, _, body = await ask(endpoint, "/metrics", headers=OPENMETRICS)
    parsed = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    assert len(families["pgweir_transactions"].samples) == 1000


async def test_slices_of_a_metric_have_one_header(endpoint: HttpEndpoint) -> None:
    _, _, body = await ask(endpoint, "/metrics")
    assert body.count(b"# HELP pgweir_transactions_total ") == 1


async def test_metrics_are_compressed_where_that_is_accepted(endpoint: HttpEndpoint) -> None:
    _, headers, body = await ask(endpoint, "/metrics", headers={"Accept-Encoding": "gzip"})
    assert (headers["Content-Encoding"], gzip.decompress(body)[:7]) == ("gzip", b"# HELP ")


async def test_openmetrics_compressed_is_whole(endpoint: HttpEndpoint) -> None:
    _, _, body = await ask(endpoint, "/metrics", headers={**OPENMETRICS, "Accept-Encoding": "gzip"})
    text = gzip.decompress(body).decode()
    assert list(parse_openmetrics(text))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=1.0.x",
        "application/openmetrics-text; version=" + "9" * 3000,
        "text/plain; version=;;==,",
        ";,;,;",
        "\xff\xfe",
    ],
    ids=["letters", "digits", "signs", "nothing", "bytes"],
)
async def test_an_accept_header_of_nonsense_is_answered(
    endpoint: HttpEndpoint, accept: str
) -> None:
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode("latin-1")
    assert (await converse(endpoint, request)).startswith(b"HTTP/1.1 200 ")


async def test_a_scrape_lets_the_loop_do_other_things(proxy: Proxy, endpoint: HttpEndpoint) -> None:
    loop = asyncio.get_running_loop()
    turns = 0
    rendering = False

    def turn() -> None:
        nonlocal turns
        if rendering:
            turns += 1
            loop.call_soon(turn)

    def begin() -> None:
        nonlocal rendering
        rendering = True
        loop.call_soon(turn)

    proxy.while_reading = begin
    await ask(endpoint, "/metrics")
    rendering = False
    assert turns > 10


async def test_a_reading_that_fails_is_answered_with_500(
    proxy: Proxy, endpoint: HttpEndpoint
) -> None:
    proxy.failure = RuntimeError("the counters are gone")
    status, _, body = await ask(endpoint, "/metrics")
    assert (status, b"counters" in body) == (500, False)


async def test_a_reading_that_fails_is_logged(
    proxy: Proxy, endpoint: HttpEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.failure = RuntimeError("the counters are gone")
    await ask(endpoint, "/metrics")
    assert [record.message for record in caplog.records] == ["http request failed"]


async def test_a_reading_that_keeps_failing_does_not_flood_the_log(
    proxy: Proxy, endpoint: HttpEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.failure = RuntimeError("the counters are gone")
    for _ in range(10):
        await ask(endpoint, "/metrics")
    assert len(caplog.records) == 3


# Health


@pytest.mark.parametrize(("serving", "status"), [(True, 200), (False, 503)])
async def test_healthz_says_whether_it_serves(
    proxy: Proxy, endpoint: HttpEndpoint, serving: bool, status: int
) -> None:
    proxy.serving = serving
    assert (await ask(endpoint, "/healthz"))[0] == status


async def test_readyz_is_200_when_ready(endpoint: HttpEndpoint) -> None:
    status, _, body = await ask(endpoint, "/readyz")
    assert (status, body) == (200, b"ready\n")


async def test_readyz_says_why_it_is_not_ready(proxy: Proxy, endpoint: HttpEndpoint) -> None:
    proxy.not_ready = "cluster main: no primary is reachable"
    status, _, body = await ask(endpoint, "/readyz")
    assert (status, body) == (503, b"cluster main: no primary is reachable\n")


async def test_a_reason_that_is_not_utf8_is_sent_all_the_same(
    proxy: Proxy, endpoint: HttpEndpoint
) -> None:
    proxy.not_ready = "node \udcff"
    assert (await ask(endpoint, "/readyz"))[2] == b"node \\udcff\n"


# What there is to ask


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics/", "/favicon.ico", "/../etc"])
async def test_an_unknown_path_is_404(endpoint: HttpEndpoint, path: str) -> None:
    assert (await ask(endpoint, path))[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods_are_405(endpoint: HttpEndpoint, method: str, path: str) -> None:
    status, headers, _ = await ask(endpoint, path, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_head_has_no_body(endpoint: HttpEndpoint, path: str) -> None:
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    head, _, body = (await converse(endpoint, request)).partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"")


async def test_a_connection_is_for_one_request(endpoint: HttpEndpoint) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await converse(endpoint, request * 5)).count(b"HTTP/1.1 200 OK") == 1


async def test_a_visitor_that_sends_and_shuts_is_still_answered(endpoint: HttpEndpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert (await reader.read()).endswith(b"ok\n")
    writer.close()


# Visitors who mean harm


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n",
        b"GET /metrics HTTP/x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 5000 + b"\r\n\r\n",
    ],
    ids=["tls", "postgresql", "version", "length", "smuggled", "long line", "long field"],
)
async def test_what_is_not_http_is_400_and_not_in_the_log(
    endpoint: HttpEndpoint, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pgweir")
    answer = await converse(endpoint, sent)
    assert (answer.split(b" ")[1:2], caplog.records) == ([b"400"], [])


async def test_a_request_without_end_is_cut_off(endpoint: HttpEndpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000)
    try:
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    assert not answer.startswith(b"HTTP/1.1 2")


SHORT = VisitLimits(deadline_s=0.2)


async def test_who_sends_nothing_is_dropped_at_the_deadline(proxy: Proxy) -> None:
    async with endpoint_of(proxy, SHORT) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        assert await is_dropped(reader)
        writer.close()


async def test_who_sends_a_byte_at_a_time_is_dropped_at_the_deadline(proxy: Proxy) -> None:
    async with endpoint_of(proxy, SHORT) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        dropped = asyncio.ensure_future(is_dropped(reader))
        writer.write(b"GET /metrics HTTP/1.1\r\nx: ")
        loop = asyncio.get_running_loop()

        def drip() -> None:
            if not dropped.done():
                writer.write(b"y")
                loop.call_later(0.02, drip)

        drip()
        assert await dropped
        writer.close()


class Torrent(asyncio.Protocol):
    """Answers with more than any socket buffers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        transport.write(bytes(64 << 20))
        transport.close()  # once all is sent, as aiohttp does


async def test_who_does_not_read_the_answer_is_dropped_at_the_deadline() -> None:
    visits = Visits(Torrent, SHORT)
    server = await asyncio.get_running_loop().create_server(visits, "127.0.0.1", 0)
    try:
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: len(visits) > 0)
            await until(lambda: len(visits) == 0)
    finally:
        visits.abort_all()
        server.close()
        await server.wait_closed()


async def test_a_crowd_that_only_holds_connections_does_not_keep_a_check_out(
    proxy: Proxy,
) -> None:
    async with endpoint_of(proxy, VisitLimits(max_open=8)) as endpoint:
        crowd = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(50)]
        status, _, _ = await ask(endpoint, "/healthz")
        for _, writer in crowd:
            writer.close()
    assert status == 200


async def test_connections_at_once_are_bounded(proxy: Proxy) -> None:
    async with endpoint_of(proxy, VisitLimits(max_open=8)) as endpoint:
        crowd = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(50)]
        oldest = [is_dropped(reader) for reader, _ in crowd[:42]]
        assert (await asyncio.gather(*oldest), len(endpoint)) == ([True] * 42, 8)
        for _, writer in crowd:
            writer.close()


async def test_who_left_is_not_rendered_for(proxy: Proxy) -> None:
    readings = 0

    def count() -> None:
        nonlocal readings
        readings += 1

    proxy.while_reading = count
    proxy.figures = replace(ALICE_AND_MANY, transactions={f"{n}": n for n in range(20_000)})
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    async with endpoint_of(proxy) as endpoint:
        first = asyncio.ensure_future(converse(endpoint, request))
        await until(lambda: readings == 1)
        visitors = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(20)]
        for visitor in visitors:
            visitor.sendall(request)
        await until(lambda: len(endpoint) == 21)
        for _ in range(5):  # turns in which their requests reach the queue
            await asyncio.sleep(0)
        for visitor in visitors:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            visitor.close()
        await first
        await until(lambda: len(endpoint) == 0)
    assert readings == 1


# Starting and stopping


async def test_the_port_is_known_once_it_listens(endpoint: HttpEndpoint) -> None:
    assert endpoint.port > 0


async def test_an_address_in_use_is_an_oserror(proxy: Proxy, endpoint: HttpEndpoint) -> None:
    second = HttpEndpoint(
        "127.0.0.1", endpoint.port, build_registry(proxy.read), lambda: True, lambda: None
    )
    with pytest.raises(OSError, match="ddress already in use"):
        await second.start()


async def test_after_stop_nobody_listens(proxy: Proxy) -> None:
    async with endpoint_of(proxy) as endpoint:
        port = endpoint.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_stop_drops_who_is_still_there(proxy: Proxy) -> None:
    async with endpoint_of(proxy) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        await until(lambda: len(endpoint) > 0)
    assert await is_dropped(reader)
    writer.close()


async def test_stop_twice_and_before_start_does_no_harm(proxy: Proxy) -> None:
    endpoint = HttpEndpoint("127.0.0.1", 0, build_registry(proxy.read), lambda: True, lambda: None)
    await endpoint.stop()
    await endpoint.start()
    await endpoint.stop()
    await endpoint.stop()


async def test_it_can_start_again_after_a_stop(proxy: Proxy, endpoint: HttpEndpoint) -> None:
    await endpoint.stop()
    await endpoint.start()
    assert (await ask(endpoint, "/healthz"))[0] == 200
