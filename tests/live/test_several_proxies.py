"""Several proxies, and several processes of one, serve a cluster whose primary dies.

Proxies are processes of their own; etcd is a real one.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.fixtures.agreement import Agreement
from tests.fixtures.postgres import PostgresCluster
from tests.live.appending import check
from tests.live.pair import (
    AFTER,
    BEFORE,
    a_client_of_each,
    children_of,
    give_command,
    rebuild_behind,
    timeline_of,
    two_processes,
    two_proxies,
    until_settled,
)


async def test_exactly_one_promotes_and_the_clients_of_both_go_on(
    synchronous: PostgresCluster, agreement: Agreement, tmp_path: Path
) -> None:
    with two_proxies(synchronous, tmp_path, agreement, after="500ms") as proxies:
        old = proxies.primary
        notes = await proxies.through(old.kill)
        new = proxies.primary
        assert proxies.count("promoted") == 1
        assert proxies.count("failed") == 0
        assert notes.disconnected == 0
        history = check(notes, new)
        assert history.is_clean, history
        synchronous.rebuild(old)
        until_settled(synchronous, *proxies.both)


async def test_of_two_proxies_with_two_processes_each_exactly_one_promotes_and_all_clients_go_on(
    synchronous: PostgresCluster, in_etcd: Agreement, tmp_path: Path
) -> None:
    with two_proxies(synchronous, tmp_path, in_etcd, workers=2, after="500ms") as proxies:
        for weir in proxies.both:
            assert len(children_of(weir)) == 2
        with a_client_of_each(*proxies.both) as clients:
            old, timeline = proxies.primary, timeline_of(proxies.primary)
            notes = await proxies.through(old.kill)
            new = proxies.primary
            assert timeline_of(new) == timeline + 1
            assert (proxies.count("promoted"), proxies.count("failed")) == (1, 0)
            assert notes.disconnected == 0
            history = check(notes, new)
            assert history.is_clean, history
            synchronous.rebuild(old)
            until_settled(synchronous, *proxies.both)
            # And back as planned: no client of any process gets an error.
            told: list[str] = []
            order = f"FAILOVER main TO {old.name}"
            notes = await proxies.through(lambda: told.append(give_command(proxies.second, order)))
            assert told[0].startswith(f"{old.name} is the primary of cluster main on timeline")
            assert proxies.primary == old
            assert timeline_of(old) == timeline + 2
            assert (proxies.count("switched_over"), proxies.count("failed")) == (1, 0)
            assert (dict(notes.errors), notes.disconnected) == ({}, 0)
            history = check(notes, old)
            assert history.is_clean, history
            for client in clients:
                found = client.execute("SELECT txid_current() > 0, inet_server_port()").fetchone()
                assert found == (True, old.port)
        rebuild_behind(synchronous, new, proxies.both)


@pytest.mark.parametrize("moment", [BEFORE, AFTER], ids=["before", "after"])
async def test_a_proxy_that_is_stopped_in_the_middle_of_a_promotion_leaves_it_to_the_other(
    synchronous: PostgresCluster, agreement: Agreement, tmp_path: Path, moment: bytes
) -> None:
    with two_proxies(synchronous, tmp_path, agreement) as proxies:
        old, candidates = proxies.primary, proxies.replicas()
        timeline = timeline_of(old)
        stopped = [proxies.stop_first_when_it_sends(moment, node) for node in candidates]
        since = len(proxies.first.log)

        def fault() -> None:
            old.kill()
            proxies.second.wait_until(lambda: any(each.is_set() for each in stopped), 30.0)
            done = "takes writes on timeline"
            proxies.second.wait_for_log(done, 30.0)
            proxies.first.send(signal.SIGCONT)
            proxies.first.wait_for_log("promoting db. failed: the lease to promote was lost", 30.0)

        notes = await proxies.through(fault)
        new = proxies.primary
        # It was the first that had begun, with that node; it did not act when it woke up.
        (begun,) = [node for node, each in zip(candidates, stopped, strict=True) if each.is_set()]
        assert new == begun
        assert timeline_of(new) == timeline + 1
        assert proxies.second.metric("pgweir_failovers_total", result="promoted") == 1
        assert proxies.first.metric("pgweir_failovers_total", result="promoted") == 0
        assert proxies.first.metric("pgweir_failovers_total", result="failed") == 1
        assert not any("streams from" in line for line in proxies.first.log[since:])
        assert notes.disconnected == 0
        history = check(notes, new)
        assert history.is_clean, history
        # The others are led, and the operator's command is run, once.
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        await asyncio.to_thread(proxies.second.wait_until, lambda: new.value(streams) == 1, 30.0)
        once = f"on_promote {new.name} {old.name}"
        await asyncio.to_thread(
            proxies.second.wait_until, lambda: proxies.told.read_text().split("\n") == [once, ""]
        )
        synchronous.rebuild(old)
        until_settled(synchronous, *proxies.both)


async def test_of_several_processes_one_promotes_also_when_one_of_them_is_stopped(
    synchronous: PostgresCluster, tmp_path: Path
) -> None:
    with two_processes(synchronous, tmp_path) as proxies:
        weir, old, timeline = proxies.first, proxies.primary, timeline_of(proxies.primary)
        notes = await proxies.through(old.kill)
        assert timeline_of(proxies.primary) == timeline + 1
        assert weir.metric("pgweir_failovers_total", result="promoted") == 1
        assert notes.disconnected == 0
        history = check(notes, proxies.primary)
        assert history.is_clean, history
        synchronous.rebuild(old)
        until_settled(synchronous, weir)
        old, first = proxies.primary, children_of(weir)[0]
        os.kill(first, signal.SIGSTOP)
        try:
            old.kill()
            said = f"takes writes on timeline .* s after {old.name} failed"
            await asyncio.to_thread(weir.wait_for_log, said, 40.0)
        finally:
            os.kill(first, signal.SIGCONT)
        assert timeline_of(proxies.primary) == timeline + 2
        synchronous.rebuild(old)
        until_settled(synchronous, weir)


@pytest.mark.parametrize("moment", [BEFORE, AFTER], ids=["before", "after"])
async def test_a_process_that_is_stopped_in_the_middle_of_a_promotion_leaves_it_to_its_sibling(
    synchronous: PostgresCluster, tmp_path: Path, moment: bytes
) -> None:
    with two_processes(synchronous, tmp_path, is_wired=True) as proxies:
        weir, old, timeline = proxies.first, proxies.primary, timeline_of(proxies.primary)
        candidates = proxies.replicas()
        stopped = [proxies.stop_holder_when_it_sends(moment, node) for node in candidates]

        def fault() -> None:
            old.kill()
            weir.wait_until(lambda: any(each.is_set() for each in stopped), 30.0)
            weir.wait_for_log("takes writes on timeline", 30.0)
            proxies.wake_up()
            weir.wait_for_log("promoting db. failed: the lease to promote was lost", 30.0)

        notes = await proxies.through(fault)
        new = proxies.primary
        (begun,) = [node for node, each in zip(candidates, stopped, strict=True) if each.is_set()]
        assert new == begun
        assert timeline_of(new) == timeline + 1
        assert weir.metric("pgweir_failovers_total", result="promoted") == 1
        assert weir.metric("pgweir_failovers_total", result="failed") == 1
        assert notes.disconnected == 0
        history = check(notes, new)
        assert history.is_clean, history
        synchronous.rebuild(old)
        until_settled(synchronous, weir)
