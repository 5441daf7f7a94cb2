"""Leases in a real etcd: one at a time, lost when they end, and a word that outlives its holder."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from proxy.failover import EtcdLease, EtcdTerms, Member
from proxy.failover.etcd import EtcdSession
from proxy.failover.keeping import KeptGrant
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Notice, Record
from tests.fixtures.etcd import an_etcd
from tests.fixtures.postgres import make_certificates

_clusters = itertools.count()
ONE = Member("one", "one")


@pytest.fixture
def leases(etcd: str) -> Callable[[], EtcdLease]:
    """Makes leases of one cluster, that of this test, for one proxy after the other."""
    cluster = f"cluster{next(_clusters)}"
    proxies = itertools.count()

    def make(ttl_s: float = 5.0) -> EtcdLease:
        return EtcdLease(
            EtcdTerms((etcd,), ttl_s=ttl_s), cluster, Member(name := f"proxy{next(proxies)}", name)
        )

    return make


@pytest.fixture
async def session(etcd: str) -> AsyncIterator[EtcdSession]:
    session = await EtcdSession.open(EtcdTerms((etcd,)))
    yield session
    await session.close()


async def taken(lease: EtcdLease, node: str) -> KeptGrant:
    grant = await lease.take(node)
    assert isinstance(grant, KeptGrant)
    return grant


async def taken_in_time(lease: EtcdLease, node: str) -> Grant:
    """The lease, as soon as it is free."""
    async with asyncio.timeout(20):
        while True:
            if (grant := await lease.take(node)) is not None:
                return grant
            await asyncio.sleep(0.1)


async def test_one_proxy_has_it_and_the_other_does_not(leases: Callable[[], EtcdLease]) -> None:
    one, other = leases(), leases()
    grant = await one.take("db2")
    assert grant is not None
    assert (grant.node, grant.is_valid) == ("db2", True)
    assert await other.take("db3") is None
    await grant.abandon(began=False)
    assert not grant.is_valid
    later = await other.take("db3")
    assert later is not None
    assert later.node == "db3"
    await later.abandon(began=False)


async def test_of_many_at_once_one_has_it(leases: Callable[[], EtcdLease]) -> None:
    grants = await asyncio.gather(*(leases().take("db2") for _ in range(8)))
    (winner,) = [grant for grant in grants if grant is not None]
    await winner.abandon(began=False)


async def test_after_a_promotion_nobody_promotes_for_a_while(
    leases: Callable[[], EtcdLease],
) -> None:
    grant = await leases().take("db2")
    assert grant is not None
    await grant.finish(rest_s=2.0)
    assert await leases().take("db3") is None
    later = await taken_in_time(leases(), "db3")
    assert later.node == "db3"
    await later.finish(rest_s=0.0)
    at_once = await leases().take("db1")
    assert at_once is not None
    await at_once.abandon(began=False)


async def test_a_lease_is_extended_while_it_is_held(leases: Callable[..., EtcdLease]) -> None:
    grant = await taken(leases(ttl_s=3.0), "db2")
    first = grant._until
    async with asyncio.timeout(20):
        while True:
            if grant._until > first + 3.0:
                break
            await asyncio.sleep(0.05)
    assert grant.is_valid
    assert await leases().take("db3") is None
    await grant.abandon(began=False)


async def test_who_takes_over_goes_on_with_the_same_node(leases: Callable[..., EtcdLease]) -> None:
    stopped = await leases(ttl_s=2.0).take("db2")
    assert stopped is not None
    stopped.drop()
    heir = await taken_in_time(leases(), "db3")
    assert heir.node == "db2"
    await heir.abandon(began=False)


async def test_a_holder_that_has_lost_the_lease_can_change_nothing(
    leases: Callable[..., EtcdLease], session: EtcdSession
) -> None:
    lease = leases(ttl_s=2.0)
    grant = await taken(lease, "db2")
    await session.ask("lease/revoke", {"ID": grant._seat.lease})  # type: ignore[attr-defined]
    heir = await leases().take("db2")
    assert heir is not None
    with pytest.raises(CoordinatorUnavailable, match="lost"):
        await grant.aim_at("db3")
    assert not grant.is_valid
    await grant.abandon(began=True)
    assert heir.is_valid
    assert await leases().take("db3") is None
    await heir.abandon(began=False)


async def test_the_clock_alone_ends_a_lease_that_cannot_be_extended(etcd: str) -> None:
    now = [100.0]
    lease = EtcdLease(EtcdTerms((etcd,), ttl_s=5.0), "clocked", ONE, clock=lambda: now[0])
    grant = await lease.take("db2")
    assert grant is not None
    now[0] += 3.9
    assert grant.is_valid
    now[0] += 0.2
    assert not grant.is_valid
    await grant.abandon(began=False)


async def test_the_next_endpoint_is_asked_when_one_does_not_answer(etcd: str) -> None:
    lease = EtcdLease(EtcdTerms(("http://127.0.0.1:1", etcd)), "second", ONE)
    grant = await lease.take("db2")
    assert grant is not None
    await grant.abandon(began=False)


async def test_it_is_shown_a_certificate_where_it_wants_one(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    with an_etcd(tmp_path, files) as etcd:
        shown = EtcdTerms((etcd.url,), ca=files.ca, cert=files.client_cert, key=files.client_key)
        grant = await EtcdLease(shown, "main", ONE).take("db2")
        assert grant is not None
        await grant.abandon(began=False)
        with pytest.raises(CoordinatorUnavailable, match="etcd does not answer"):
            await EtcdLease(EtcdTerms((etcd.url,), ca=files.ca), "main", ONE).take("db2")
        with pytest.raises(CoordinatorUnavailable, match="certificate verify failed"):
            await EtcdLease(EtcdTerms((etcd.url,)), "main", ONE).take("db2")


async def test_it_is_logged_in_to_where_it_wants_so(tmp_path: Path) -> None:
    with an_etcd(tmp_path) as etcd:
        free = await EtcdSession.open(EtcdTerms((etcd.url,)))
        root = {"name": "root", "password": "secret"}
        for path, question in (
            ("auth/user/add", root),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/enable", {}),
        ):
            await free.ask(path, question)
        await free.close()
        known = EtcdTerms((etcd.url,), user="root", password="secret")
        grant = await EtcdLease(known, "main", ONE).take("db2")
        assert grant is not None
        await grant.abandon(began=False)
        with pytest.raises(CoordinatorUnavailable, match="answered 400"):
            wrong = EtcdTerms((etcd.url,), user="root", password="wrong")
            await EtcdLease(wrong, "main", ONE).take("db2")
        with pytest.raises(CoordinatorUnavailable, match="user name is empty"):
            await EtcdLease(EtcdTerms((etcd.url,)), "main", ONE).take("db2")


async def test_an_answer_may_come_in_pieces() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"kvs": [{"key"', b': "YQ=="}]}'):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_post("/v3/kv/range", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    session = await EtcdSession.open(EtcdTerms((url,)))
    try:
        assert await session.read_all("/pgweir/") == [{"key": "YQ=="}]
    finally:
        await session.close()
        await runner.cleanup()


async def test_an_etcd_that_does_not_answer_is_told_as_such() -> None:
    lease = EtcdLease(EtcdTerms(("http://127.0.0.1:1",)), "main", ONE)
    with pytest.raises(CoordinatorUnavailable, match="etcd does not answer"):
        await lease.take("db2")


async def test_a_notice_stands_while_the_lease_is_held_and_others_answer_it(
    leases: Callable[..., EtcdLease],
) -> None:
    holder, other = leases(ttl_s=2.0), leases()
    assert await other.read() == Record()
    grant = await taken(holder, "db2")
    assert await other.read() == Record(is_held=True, node="db2")
    notice = Notice("7", "db1", "db2")
    await grant.announce(notice)
    assert await other.read() == Record(is_held=True, node="db2", notice=notice)
    answer = Answer("7", other.member)
    await other.answer(answer)
    assert await grant.read_answers() == [answer]
    holding = Answer("7", other.member, is_holding=True)
    await other.answer(holding)
    assert await grant.read_answers() == [holding]
    # Its holder is stopped: it goes with the lease, and so do the answers.
    grant.drop()
    async with asyncio.timeout(20):
        while True:
            if not (left := await other.read()).is_held:
                break
            await asyncio.sleep(0.1)
    assert left == Record(node="db2")
    with pytest.raises(CoordinatorUnavailable):
        await other.answer(answer)
    heir = await taken(other, "db3")
    assert (heir.node, heir.is_inherited) == ("db2", True)
    assert await heir.read_answers() == []
    await heir.finish(rest_s=0.0)
    assert await holder.read() == Record()
    for each in (holder, other):
        await each.close()
