"""Patroni says who its leader is: asked over HTTP, believed where timelines do not decide."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.cluster import Monitor, NodeAddress, ProbeLogin
from proxy.config import parse
from proxy.failover import EventLog, Failover, Hands, OnlyProxy, PatroniTerms, Terms
from proxy.failover.patroni import Member, Patroni, PatroniSilent, find_node, read_leader
from proxy.workers.terms import read_failover
from tests.cluster.samples import Story, primary
from tests.fixtures.postgres import Certificates, make_certificates

NODES = [NodeAddress("db1", "10.0.0.1", 5432), NodeAddress("db2", "10.0.0.2", 5432)]


def member(name: str, host: str, role: str, state: str) -> dict[str, Any]:
    """As one of GET /cluster."""
    url = f"http://{host}:8008/patroni"
    facts = {"name": name, "role": role, "state": state, "api_url": url, "host": host}
    return facts | {"port": 5432, "timeline": 5, "tags": {"clonefrom": True}}


def cluster(leader: int) -> dict[str, Any]:
    """An answer of Patroni with two members."""
    words = {True: ("leader", "running"), False: ("replica", "streaming")}
    members = [member(f"p{at}", f"10.0.0.{at}", *words[at == leader]) for at in (1, 2)]
    return {"members": members, "scope": "demo"}


@contextlib.asynccontextmanager
async def patroni(
    answer: dict[str, Any],
    status: int = 200,
    *,
    is_primary: bool = False,
    login: tuple[str, str] | None = None,
    tls: Certificates | None = None,
    wants_certificate: bool = False,
) -> AsyncIterator[str]:
    """A server that says this; its URL. login: who may ask. tls: it shows the server's.

    wants_certificate: as with Patroni's `verify_client: required`.
    """

    def refuse(request: web.Request) -> None:
        if login is not None:
            wanted = base64.b64encode(":".join(login).encode()).decode()
            if request.headers.get("Authorization") != f"Basic {wanted}":
                raise web.HTTPUnauthorized

    async def tell(request: web.Request) -> web.Response:
        refuse(request)
        return web.json_response(answer, status=status)

    async def tell_primary(request: web.Request) -> web.Response:
        refuse(request)
        return web.json_response({"state": "running"}, status=200 if is_primary else 503)

    app = web.Application()
    app.router.add_get("/cluster", tell)
    app.router.add_get("/primary", tell_primary)
    runner = web.AppRunner(app)
    await runner.setup()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.server_cert, tls.server_key)
        if wants_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.ca)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask_leader(urls: tuple[str, ...], **terms: Any) -> Member | None:
    return await Patroni(PatroniTerms(urls, **terms)).ask_leader()


async def test_the_first_that_answers_names_the_leader() -> None:
    async with patroni({}, 503) as broken, patroni(cluster(2)) as well:
        leader = await ask_leader(("http://127.0.0.1:1", broken, well))
    assert leader == Member("p2", "10.0.0.2", 5432)


async def test_when_nobody_answers_it_says_why() -> None:
    async with patroni({}, 503) as broken, patroni({"no": "members"}) as strange:
        with pytest.raises(PatroniSilent, match=r"answered 503; .* not what Patroni answers"):
            await ask_leader((broken, strange))


async def test_where_nobody_knows_the_cluster_each_says_whether_it_is_the_primary() -> None:
    async with patroni({}, 503) as replica, patroni({}, 503, is_primary=True) as leader:
        assert await ask_leader((replica, leader)) == Member(None, "127.0.0.1", None)
        with pytest.raises(PatroniSilent, match="answered 503"):
            await ask_leader((replica,))


async def test_it_is_believed_by_its_certificate_alone(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    async with patroni(cluster(2), tls=certificates) as url:
        assert await ask_leader((url,), ca=certificates.ca) == Member("p2", "10.0.0.2", 5432)
        with pytest.raises(PatroniSilent, match="certificate verify failed"):
            await ask_leader((url,))
        with pytest.raises(PatroniSilent, match="its TLS files"):
            await ask_leader((url,), ca=tmp_path / "none")


async def test_it_is_shown_a_certificate_where_it_wants_one(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for each in folders:
        each.mkdir()
    shown, strange = map(make_certificates, folders)
    trusted = {"ca": shown.ca}
    async with patroni(cluster(2), tls=shown, wants_certificate=True) as url:
        known = await ask_leader((url,), **trusted, cert=shown.client_cert, key=shown.client_key)
        assert known == Member("p2", "10.0.0.2", 5432)
        for wrong in ({}, {"cert": strange.client_cert, "key": strange.client_key}):
            with pytest.raises(PatroniSilent, match=r"alert|reset|disconnected|closed"):
                await ask_leader((url,), **trusted, **wrong)
        with pytest.raises(PatroniSilent, match="its TLS files"):
            await ask_leader((url,), **trusted, cert=shown.client_cert, key=strange.client_key)


async def test_it_is_logged_in_to_where_it_wants_so() -> None:
    async with patroni(cluster(2), login=("admin", "secret")) as url:
        known = await ask_leader((url,), user="admin", password="secret")
        assert known == Member("p2", "10.0.0.2", 5432)
        with pytest.raises(PatroniSilent, match="answered 401"):
            await ask_leader((url,))


def test_the_configuration_leads_to_it(tmp_path: Path) -> None:
    ca, cert, key = (tmp_path / each for each in ("ca.crt", "own.crt", "own.key"))
    for each in (ca, cert, key):
        each.touch()
    files = f"ca: {ca}, cert: {cert}, key: {key}"
    asked = f"{{urls: [https://h:8008], {files}, user: admin, password: secret}}"
    text = (
        "clusters: {main: {nodes: [{host: h}], failover: {mode: follow, patroni: "
        f"{asked}}}}}}}\ndatabases: {{d: {{cluster: main}}}}\n"
    )
    terms = read_failover(parse(text, {}).clusters["main"])
    expected = PatroniTerms(("https://h:8008",), ca, cert, key, user="admin", password="secret")
    assert terms.patroni == expected


def test_without_a_leader_there_is_none() -> None:
    assert read_leader(cluster(0)) is None
    assert read_leader({"members": [member("p1", "h", "standby_leader", "running")]}) is None
    assert read_leader({"members": [member("p1", "h", "leader", "stopped")]}) is None


@pytest.mark.parametrize(
    ("leader", "node"),
    [
        (Member("p2", "10.0.0.2", 5432), "db2"),
        (Member("db1", "pod-1.internal", 5432), "db1"),
        (Member("db1", "10.0.0.2", 5432), "db2"),
        (Member("p2", "10.0.0.2", 5433), None),
        (Member(None, "10.0.0.2", None), "db2"),
        (Member(None, "10.0.0.3", None), None),
    ],
)
def test_a_member_is_the_node_at_its_address_or_of_its_name(
    leader: Member, node: str | None
) -> None:
    assert find_node(leader, NODES) == node


def two_that_claim(leader: str | None, **timelines: int) -> str | None:
    story = Story("db1", "db2")
    story.view = replace(story.view, leader=leader)
    samples = {name: primary(1.0, timeline=timelines[name]) for name in ("db1", "db2")}
    return story.then(1.0, **samples).primary


def test_of_two_that_claim_the_same_timeline_the_leader_is_believed() -> None:
    assert two_that_claim(None, db1=2, db2=2) is None
    assert two_that_claim("db2", db1=2, db2=2) == "db2"


def test_timelines_are_believed_before_patroni() -> None:
    assert two_that_claim("db1", db1=1, db2=2) == "db2"


async def test_what_patroni_says_comes_into_the_picture() -> None:
    login = ProbeLogin("nobody")
    monitor = Monitor(
        "main", NODES, login, interval_s=60.0, timeout_s=1.0, publish=lambda _view: None
    )
    async with patroni(cluster(2)) as url:
        failover = Failover(
            "main",
            Terms(patroni=PatroniTerms((url,))),
            login,
            Hands(lambda _view: None, lambda *_: None, lambda *_: 0),
            lease=OnlyProxy(),
            events=EventLog(time.time),
            clock=asyncio.get_running_loop().time,
        )
        failover.watch(monitor)
        watching = asyncio.create_task(failover.run())
        async with asyncio.timeout(20):
            while True:
                if monitor.view.leader == "db2":
                    break
                await asyncio.sleep(0.02)
        watching.cancel()
        await asyncio.wait({watching})
