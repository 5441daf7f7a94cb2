"""The status page and its figures over real HTTP: what is served, to whom, and for how long."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

import proxy.console
from proxy.config import HttpAuth, Secret
from proxy.console import HttpEndpoint, StatusPage
from proxy.console.access import is_allowed
from proxy.console.visits import VisitLimits
from proxy.telemetry import Figures, build_registry

DEADLINE_S = 10.0
FOLDER = Path(proxy.console.__file__).parent
STATUS = {
    "version": "1.2.3",
    "points": [{"at": float(at)} for at in range(10)],
    "clients": {"total": 0},
}


@asynccontextmanager
async def endpoint_of(
    auth: HttpAuth | None = None, limits: VisitLimits | None = None
) -> AsyncIterator[HttpEndpoint]:
    endpoint = HttpEndpoint(
        "127.0.0.1",
        0,
        build_registry(lambda: Figures(version="1.2.3")),
        lambda: True,
        lambda: None,
        page=StatusPage(lambda: dict(STATUS)),
        auth=lambda: auth,
        limits=limits,
    )
    await endpoint.start()
    try:
        yield endpoint
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await endpoint.stop()


async def ask(
    endpoint: HttpEndpoint, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    async with (
        ClientSession() as session,
        asyncio.timeout(DEADLINE_S),
        session.get(f"http://127.0.0.1:{endpoint.port}{path}", headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


# What is served


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/status", "application/json"),
    ],
)
async def test_each_part_has_its_kind(path: str, kind: str) -> None:
    async with endpoint_of() as endpoint:
        status, headers, body = await ask(endpoint, path)
    assert (status, headers["Content-Type"].split(";")[0], bool(body)) == (200, kind, True)


async def test_the_browser_is_told_to_load_nothing_from_elsewhere() -> None:
    async with endpoint_of() as endpoint:
        _, headers, _ = await ask(endpoint, "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy)


@pytest.mark.parametrize("name", ["page.html", "page.css", "page.js"])
def test_nothing_on_the_page_comes_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(", text)


def test_text_of_strangers_is_never_taken_for_html() -> None:
    script = (FOLDER / "page.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


async def test_the_status_has_all_points() -> None:
    async with endpoint_of() as endpoint:
        _, _, body = await ask(endpoint, "/api/status")
    assert json.loads(body) == STATUS


async def test_an_event_has_the_newest_points_only() -> None:
    async with (
        endpoint_of() as endpoint,
        ClientSession() as session,
        asyncio.timeout(DEADLINE_S),
        session.get(f"http://127.0.0.1:{endpoint.port}/api/events") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        line = await anext(line async for line in answer.content if line.startswith(b"data: "))
    assert json.loads(line.removeprefix(b"data: "))["points"] == [
        {"at": 7.0},
        {"at": 8.0},
        {"at": 9.0},
    ]


async def test_who_takes_the_events_may_stay_longer_than_others() -> None:
    short = VisitLimits(deadline_s=3.0)
    async with (
        endpoint_of(limits=short) as endpoint,
        ClientSession() as session,
        asyncio.timeout(DEADLINE_S),
        session.get(f"http://127.0.0.1:{endpoint.port}/api/events") as answer,
    ):
        seen = 0
        async for line in answer.content:
            seen += line.startswith(b"data: ")
            if seen == 5:
                break
    assert seen == 5


async def test_stopping_ends_the_events() -> None:
    async with ClientSession() as session, asyncio.timeout(DEADLINE_S):
        async with endpoint_of() as endpoint:
            answer = await session.get(f"http://127.0.0.1:{endpoint.port}/api/events")
            await answer.content.readline()
        rest = await answer.content.read()
    assert rest.endswith(b"\n\n")


async def test_the_status_is_put_together_once_for_many_who_ask() -> None:
    readings = 0

    def read() -> dict[str, object]:
        nonlocal readings
        readings += 1
        return dict(STATUS)

    page = StatusPage(read, clock=lambda: 100.0)
    for _ in range(5):
        await page.status()
    assert readings == 1


# To whom


BASIC = HttpAuth(user="ops", password=Secret("s3cret"))
TOKEN = HttpAuth(token=Secret("t0ken"))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("auth", "authorization", "allowed"),
    [
        (None, "", True),
        (BASIC, "", False),
        (BASIC, basic("ops", "s3cret"), True),
        (BASIC, basic("ops", "s3cret ").lower(), False),
        (BASIC, basic("ops", "wrong"), False),
        (BASIC, basic("other", "s3cret"), False),
        (BASIC, basic("", ""), False),
        (BASIC, "Basic s3cret", False),
        (BASIC, "Basic \xff", False),
        (BASIC, "Bearer s3cret", False),
        (BASIC, "Bearer ", False),
        (TOKEN, "Bearer t0ken", True),
        (TOKEN, "bearer  t0ken ", True),
        (TOKEN, "Bearer t0ke", False),
        (TOKEN, "Bearer", False),
        (TOKEN, basic("anybody", "t0ken"), True),
        (TOKEN, basic("t0ken", "x"), False),
    ],
)
def test_who_is_let_in(auth: HttpAuth | None, authorization: str, allowed: bool) -> None:
    assert is_allowed(auth, authorization) is allowed


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/api/status", "/api/events", "/metrics", "/nowhere"]
)
async def test_who_is_not_let_in_is_asked_who_it_is(path: str) -> None:
    async with endpoint_of(BASIC) as endpoint:
        status, headers, body = await ask(endpoint, path)
    assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
    assert b"s3cret" not in body


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_for_everybody(path: str) -> None:
    async with endpoint_of(BASIC) as endpoint:
        assert (await ask(endpoint, path))[0] == 200


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics"])
async def test_with_the_token_everything_is_shown(path: str) -> None:
    async with endpoint_of(TOKEN) as endpoint:
        assert (await ask(endpoint, path, {"Authorization": "Bearer t0ken"}))[0] == 200
