"""What keeps a promotion from being made: a slow primary, a second one, an etcd that is silent.

One cluster with a synchronous standby serves all tests, each with a proxy of its own.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cluster.conninfo import lead_to
from proxy.failover.orders import quote_literal
from tests.fixtures.agreement import TTL, Agreement
from tests.fixtures.etcd import an_etcd
from tests.fixtures.pgweir import configuration, running
from tests.fixtures.postgres import Postgres, PostgresCluster
from tests.live.appending import check
from tests.live.arena import Arena, promoting
from tests.live.pair import timeline_of, two_proxies, until_settled


@pytest.fixture
def arena(synchronous: PostgresCluster, tmp_path: Path) -> Iterator[Arena]:
    with running(configuration(*synchronous.nodes, **promoting()), tmp_path) as weir:
        arena = Arena(synchronous, weir, tmp_path)
        arena.until_settled()
        yield arena


def falter(node: Postgres, for_s: float) -> None:
    """Let a node hang for longer than a probe waits, and go on, again and again."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        node.freeze()
        time.sleep(1.4)
        node.thaw()
        time.sleep(0.2)


async def test_a_primary_that_answers_late_is_reported_and_not_replaced(arena: Arena) -> None:
    old, timeline = arena.primary, timeline_of(arena.primary)
    notes = await arena.load_through(lambda: falter(old, 8.0))
    assert any("slow: answered after" in line for line in arena.weir.log)
    assert arena.weir.metric("pgweir_failovers_total") == 0
    assert (arena.primary, timeline_of(old)) == (old, timeline)
    assert (dict(notes.errors), notes.disconnected) == ({}, 0)
    history = check(notes, old)
    assert history.is_clean, history
    arena.until_settled()


async def test_while_a_second_node_claims_to_be_primary_nobody_is_promoted(arena: Arena) -> None:
    old, since = arena.primary, len(arena.weir.log)
    rogue, other = (node for node in arena.cluster.nodes if node is not old)
    # By somebody else, while the old one goes on: the higher timeline is believed.
    rogue.execute("SELECT pg_promote()")
    believed = f"{rogue.name} is the primary"
    await asyncio.to_thread(arena.weir.wait_for_log, believed, 20.0, since)
    await asyncio.to_thread(
        arena.weir.wait_until, lambda: arena.weir.metric("pgweir_split_brain") == 1
    )
    await asyncio.to_thread(rogue.kill)
    refused = f"{rogue.name} is gone, but {old.name} also claims to be primary"
    await asyncio.to_thread(arena.weir.wait_for_log, refused, 20.0, since)
    assert other.value("SELECT pg_is_in_recovery()")
    assert arena.weir.metric("pgweir_failovers_total") == 0
    arena.cluster.rebuild(rogue)


async def test_while_etcd_is_silent_nobody_is_promoted(
    synchronous: PostgresCluster, tmp_path: Path
) -> None:
    (tmp_path / "etcd").mkdir()
    with an_etcd(tmp_path / "etcd") as etcd:
        agreement = Agreement({"etcd": {"endpoints": [etcd.url]}, **TTL})
        with two_proxies(synchronous, tmp_path, agreement, after="500ms") as proxies:
            old, timeline = proxies.primary, timeline_of(proxies.primary)
            replicas = proxies.replicas()

            def fault() -> None:
                os.kill(etcd.process.pid, signal.SIGSTOP)
                old.kill()
                for weir in proxies.both:
                    weir.wait_for_log(f"{old.name} is gone, but who may promote is unknown", 30.0)
                assert all(node.value("SELECT pg_is_in_recovery()") for node in replicas)
                os.kill(etcd.process.pid, signal.SIGCONT)

            notes = await proxies.through(fault)
            new = proxies.primary
            assert timeline_of(new) == timeline + 1
            assert proxies.count("promoted") == 1
            assert notes.disconnected == 0
            history = check(notes, new)
            assert history.is_clean, history
            synchronous.rebuild(old)
            until_settled(synchronous, *proxies.both)


def received(node: Postgres) -> int:
    """How far it has the WAL, in bytes."""
    return int(node.value("SELECT pg_last_wal_receive_lsn() - '0/0'"))


async def test_who_follows_goes_over_to_the_node_that_somebody_has_promoted(
    synchronous: PostgresCluster, tmp_path: Path
) -> None:
    config = configuration(*synchronous.nodes, **promoting())
    config["clusters"]["main"]["failover"] = {"mode": "follow"}
    with running(config, tmp_path) as weir:
        arena = Arena(synchronous, weir, tmp_path)
        arena.until_settled()
        old = arena.primary
        replicas = [node for node in synchronous.nodes if node is not old]

        def fault() -> None:
            old.kill()
            weir.wait_for_log("has no primary", 20.0)
            # The other cannot follow one that has less.
            replicas.sort(key=received, reverse=True)
            target, other = replicas
            target.execute("SELECT pg_promote()")
            led = lead_to(other.value("SHOW primary_conninfo"), target.host, target.port)
            assert led is not None
            other.execute(f"ALTER SYSTEM SET primary_conninfo = {quote_literal(led)}")
            other.execute("SELECT pg_reload_conf()")

        notes = await arena.load_through(fault)
        target = replicas[0]
        assert arena.primary == target
        assert notes.disconnected == 0
        assert set(notes.errors) <= {"08006", "08007"}
        history = check(notes, target)
        assert history.is_clean, history
        assert weir.metric("pgweir_failovers_total") == 0
        synchronous.rebuild(old)
        arena.until_settled()
