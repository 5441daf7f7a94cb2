"""Leases in Kubernetes: one at a time, taken over by our own clock, and a word that stays."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.config import parse
from proxy.failover import KubernetesLease, KubernetesTerms, Member
from proxy.failover.keeping import KeptGrant
from proxy.failover.kubernetes import name_object
from proxy.failover.lease import Answer, CoordinatorUnavailable, Notice, Record
from proxy.failover.siblings import nobody
from proxy.workers.terms import read_lease
from tests.fixtures.kubernetes import NAMESPACE, ApiServer

Server = tuple[ApiServer, KubernetesTerms]
TTL_S = 10.0
ONE = Member("one", "one")


class Clock:
    """Of one proxy."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(api_server: Server, clock: Clock) -> Callable[[], KubernetesLease]:
    """Makes leases of one cluster for one proxy after the other, by a clock that stands still."""
    proxies = itertools.count()

    def make() -> KubernetesLease:
        terms = replace(api_server[1], ttl_s=TTL_S)
        return KubernetesLease(terms, "main", Member(name := f"proxy{next(proxies)}", name), clock)

    return make


async def taken(lease: KubernetesLease, node: str) -> KeptGrant:
    grant = await lease.take(node)
    assert isinstance(grant, KeptGrant)
    return grant


async def test_one_proxy_has_it_and_the_other_does_not(
    leases: Callable[[], KubernetesLease], api_server: Server
) -> None:
    grant = await taken(leases(), "db2")
    assert (grant.node, grant.is_valid) == ("db2", True)
    held = api_server[0].objects["pgweir-main"]
    assert held["metadata"]["namespace"] == NAMESPACE
    assert held["spec"]["holderIdentity"].startswith("proxy0/")
    assert held["spec"]["leaseDurationSeconds"] == TTL_S
    assert await leases().take("db3") is None
    await grant.abandon(began=False)
    assert not grant.is_valid
    later = await taken(leases(), "db3")
    assert later.node == "db3"
    await later.abandon(began=False)
    assert api_server[0].objects["pgweir-main"]["spec"]["leaseTransitions"] == 1


async def test_of_many_at_once_one_has_it(leases: Callable[[], KubernetesLease]) -> None:
    for _ in range(2):  # when there is no object yet, and when there is one
        grants = await asyncio.gather(*(leases().take("db2") for _ in range(8)))
        (winner,) = [grant for grant in grants if grant is not None]
        await winner.abandon(began=False)


async def test_after_a_promotion_nobody_promotes_for_a_while(
    leases: Callable[[], KubernetesLease], clock: Clock
) -> None:
    grant = await taken(leases(), "db2")
    await grant.finish(rest_s=3600.0)
    other = leases()
    assert await other.take("db3") is None
    clock.now += 3601
    later = await taken(other, "db3")
    assert later.node == "db3"
    await later.finish(rest_s=0.0)
    await (await taken(leases(), "db1")).abandon(began=False)


async def test_a_rest_that_was_over_before_we_looked_is_not_waited_for(
    leases: Callable[[], KubernetesLease], api_server: Server
) -> None:
    await (await taken(leases(), "db2")).finish(rest_s=3600.0)
    api_server[0].objects["pgweir-main"]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    await (await taken(leases(), "db3")).abandon(began=False)


async def test_who_takes_over_goes_on_with_the_same_node(
    leases: Callable[[], KubernetesLease], clock: Clock
) -> None:
    stopped = await taken(leases(), "db2")
    stopped.drop()
    heir = leases()
    assert await heir.take("db3") is None
    clock.now += TTL_S - 0.1
    assert await heir.take("db3") is None
    clock.now += 0.2
    grant = await taken(heir, "db3")
    assert grant.node == "db2"
    await grant.abandon(began=True)
    again = await taken(leases(), "db3")
    assert again.node == "db2"
    await again.aim_at("db3")
    await again.abandon(began=True)
    last = await taken(leases(), "db1")
    assert last.node == "db3"
    await last.finish(rest_s=0.0)


async def test_the_time_of_another_machine_is_not_trusted(
    leases: Callable[[], KubernetesLease], api_server: Server
) -> None:
    grant = await taken(leases(), "db2")
    api_server[0].objects["pgweir-main"]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    assert await leases().take("db3") is None
    await grant.abandon(began=False)


async def test_a_lease_that_is_extended_is_not_taken_over(
    leases: Callable[[], KubernetesLease], clock: Clock
) -> None:
    grant, other = await taken(leases(), "db2"), leases()
    for _ in range(4):
        assert await other.take("db3") is None
        clock.now += TTL_S * 0.6
        await grant.extend()
    assert grant.is_valid
    assert await other.take("db3") is None
    await grant.abandon(began=False)


async def test_it_is_extended_by_itself_while_it_is_held(api_server: Server) -> None:
    server, terms = api_server
    grant = await taken(KubernetesLease(replace(terms, ttl_s=1.0), "main", ONE), "db2")
    first = server.objects["pgweir-main"]["spec"]
    async with asyncio.timeout(20):
        while True:
            if server.objects["pgweir-main"]["spec"]["renewTime"] != first["renewTime"]:
                break
            await asyncio.sleep(0.02)
    renewed = server.objects["pgweir-main"]["spec"]
    assert renewed["acquireTime"] == first["acquireTime"]
    await grant.abandon(began=False)


async def test_a_holder_that_has_lost_the_lease_can_change_nothing(
    leases: Callable[[], KubernetesLease], clock: Clock, api_server: Server
) -> None:
    grant, other = await taken(leases(), "db2"), leases()
    assert await other.take("db2") is None
    clock.now += TTL_S
    assert not grant.is_valid
    heir = await taken(other, "db2")
    held = json.dumps(api_server[0].objects)
    with pytest.raises(CoordinatorUnavailable, match="lost"):
        await grant.aim_at("db3")
    assert not grant.is_valid
    await grant.abandon(began=True)
    assert json.dumps(api_server[0].objects) == held
    assert heir.is_valid
    await heir.abandon(began=False)


async def test_a_write_whose_answer_was_lost_does_not_lose_the_lease(
    leases: Callable[[], KubernetesLease], api_server: Server
) -> None:
    grant = await taken(leases(), "db2")
    api_server[0].lose_answers = 1
    with contextlib.suppress(CoordinatorUnavailable):  # unless aiohttp asks once more by itself
        await grant.extend()
    assert grant.is_valid
    await grant.aim_at("db3")
    assert grant.is_valid
    await grant.abandon(began=False)


async def test_the_clock_alone_ends_a_lease_that_cannot_be_extended(
    leases: Callable[[], KubernetesLease], clock: Clock
) -> None:
    grant = await taken(leases(), "db2")
    clock.now += TTL_S - 1.1
    assert grant.is_valid
    clock.now += 0.2
    assert not grant.is_valid
    await grant.abandon(began=False)


async def test_who_may_not_write_leases_is_told_so(api_server: Server) -> None:
    terms = replace(api_server[1], namespace="another")
    with pytest.raises(CoordinatorUnavailable, match="403: cannot touch leases"):
        await KubernetesLease(terms, "main", ONE).take("db2")


async def test_outside_of_kubernetes_it_says_so(api_server: Server) -> None:
    terms = replace(api_server[1], environment={})
    with pytest.raises(CoordinatorUnavailable, match="KUBERNETES_SERVICE_HOST"):
        await KubernetesLease(terms, "main", ONE).take("db2")


def test_clusters_have_objects_of_their_own() -> None:
    names = ["main", "Main", "ma_in", "ma-in", "ünï", "a.b", "x" * 300]
    objects = [name_object(name) for name in names]
    assert objects[0] == "pgweir-main"
    assert len(set(objects)) == len(names)
    assert max(map(len, objects)) < 64


async def test_the_configuration_leads_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = parse(
        "clusters: {main: {nodes: [{host: h}], failover: {mode: promote, proxies: 2, "
        "coordinator: {kubernetes: {}}}}}\ndatabases: {d: {cluster: main}}\n",
        {},
    )
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    lease = read_lease("main", config.clusters["main"], ONE, nobody)
    with pytest.raises(CoordinatorUnavailable, match="the pod's service account"):
        await lease.take("db2")


async def test_a_notice_stands_while_the_lease_is_held_and_others_answer_it(
    leases: Callable[[], KubernetesLease], clock: Clock
) -> None:
    holder, *others = (leases() for _ in range(5))
    assert await others[0].read() == Record()
    grant = await taken(holder, "db2")
    notice = Notice("7", "db1", "db2")
    await grant.announce(notice)
    for each in others:
        assert await each.read() == Record(is_held=True, node="db2", notice=notice)
    # All at once, while the holder extends it: nobody's writing is lost.
    answers = [Answer("7", each.member) for each in others]
    told = [each.answer(answer) for each, answer in zip(others, answers, strict=True)]
    await asyncio.gather(grant.extend(), *told)
    assert sorted(await grant.read_answers(), key=str) == sorted(answers, key=str)
    await others[0].answer(Answer("6", others[0].member))
    assert len(await grant.read_answers()) == len(others)
    # What others write does not keep the lease of a holder that is gone.
    grant.drop()
    assert (await others[0].read()).is_held
    clock.now += TTL_S - 1
    await others[1].answer(answers[1])
    clock.now += 2
    assert await others[0].read() == Record(node="db2")
    heir = await taken(others[0], "db3")
    assert (heir.node, heir.is_inherited) == ("db2", True)
    assert await heir.read_answers() == []
    await heir.finish(rest_s=0.0)
    assert await others[1].read() == Record()
    for each in (holder, *others):
        await each.close()
