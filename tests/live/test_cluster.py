"""Probe and monitor against real nodes: found, lost, frozen, promoted, come back."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.cluster import (
    ClusterView,
    Failure,
    Monitor,
    NodeAddress,
    NodeView,
    Probe,
    ProbeLogin,
    Sample,
)
from proxy.config import ServerTls
from proxy.embedded import Login
from tests.fixtures.postgres import (
    CERT_USER,
    MONITOR,
    PLAIN_USER,
    TLS_USER,
    TRUST_USER,
    Postgres,
    PostgresCluster,
    PostgresWithTls,
)

INTERVAL_S = 0.2
TIMEOUT_S = 0.3
DEADLINE_S = 20.0


def login_of(user: Login, database: str = "postgres", **tls: Any) -> ProbeLogin:
    return ProbeLogin(user.name, user.password, database, ServerTls(**{"mode": "disable", **tls}))


def address_of(node: Postgres) -> NodeAddress:
    return NodeAddress(node.name, node.host, node.port)


def addresses_of(cluster: PostgresCluster) -> list[NodeAddress]:
    return [address_of(node) for node in cluster.nodes]


@dataclass
class Watched:
    """A running monitor, and everything it published."""

    monitor: Monitor
    published: list[ClusterView] = field(default_factory=list)

    def node(self, name: str) -> NodeView:
        return self.monitor.view.node(name)

    def story_of(self, name: str) -> list[str]:
        """The states of a node as published, repetitions left out."""
        states: list[str] = [view.node(name).state for view in self.published]
        return [s for s, before in zip(states, [None, *states], strict=False) if s != before]

    async def until(self, fact: Callable[[ClusterView], bool]) -> ClusterView:
        """Wait for a picture of which the fact is true."""
        await until_true(lambda: fact(self.monitor.view))
        return self.monitor.view


@contextlib.asynccontextmanager
async def watching(
    nodes: list[NodeAddress], login: ProbeLogin, **settings: Any
) -> AsyncIterator[Watched]:
    """Run a monitor for as long as the block lasts."""
    published: list[ClusterView] = []
    wanted = {"interval_s": INTERVAL_S, "timeout_s": TIMEOUT_S, "publish": published.append}
    monitor = Monitor("main", nodes, login, **{**wanted, **settings})
    running = asyncio.create_task(monitor.run())
    try:
        yield Watched(monitor, published)
        assert not running.done(), "the monitor ended by itself"
    finally:
        running.cancel()
        await asyncio.wait({running})


@contextlib.asynccontextmanager
async def silent_listener() -> AsyncIterator[NodeAddress]:
    """Somebody who accepts connections and never says a word."""
    gone = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    try:
        yield NodeAddress("silent", "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        gone.set()
        server.close()
        await server.wait_closed()


def probing(address: NodeAddress, login: ProbeLogin, timeout_s: float = 10.0) -> "aclosing[Probe]":
    return aclosing(Probe(address, login, timeout_s=timeout_s))


async def sample_of(address: NodeAddress, login: ProbeLogin) -> Sample:
    async with probing(address, login) as probe:
        return await probe.sample()


def is_settled(view: ClusterView) -> bool:
    return view.primary is not None and all(node.state == "up" for node in view.nodes)


def open_sockets() -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


async def until_true(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if fact():
                return
            await asyncio.sleep(0.01)


@dataclass
class Wire:
    """A wire to a node: how often it was dialled, and each change of direction on it."""

    server: asyncio.Server
    address: NodeAddress
    turns: list[str] = field(default_factory=list)
    dialled: int = 0


@contextlib.asynccontextmanager
async def through_a_wire(node: Postgres) -> AsyncIterator[Wire]:
    """Put a wire before a node; it is addressed by a name."""
    pumps: set[asyncio.Task[None]] = set()

    async def pump(
        source: asyncio.StreamReader, drain: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                if wire.turns[-1:] != [direction]:
                    wire.turns.append(direction)
                drain.write(piece)
        drain.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.dialled += 1
        server_reader, server_writer = await asyncio.open_connection(node.host, node.port)
        pumps.add(asyncio.create_task(pump(reader, server_writer, "question")))
        pumps.add(asyncio.create_task(pump(server_reader, writer, "answer")))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = Wire(server, NodeAddress(node.name, "localhost", port))
    try:
        yield wire
    finally:
        server.close()
        if pumps:
            await asyncio.wait(pumps)
        await server.wait_closed()


# -- one probe


async def test_probe_of_a_primary_tells_its_role_timeline_and_position(pg18: Postgres) -> None:
    sample = await sample_of(address_of(pg18), login_of(MONITOR))
    assert (sample.ok, sample.in_recovery, sample.timeline) == (True, False, 1)
    assert (sample.insert_lsn or 0) > 0


async def test_probe_of_a_replica_tells_what_it_received_and_replayed(
    pg_replicated: PostgresCluster,
) -> None:
    pg_replicated.until_caught_up()
    sample = await sample_of(address_of(pg_replicated.replicas[0]), login_of(MONITOR))
    assert (sample.in_recovery, sample.streaming, sample.timeline) == (True, True, 1)
    assert sample.replay_lsn == sample.receive_lsn


async def test_probe_tells_what_pools_and_judges_need_of_a_node(pg18: Postgres) -> None:
    sample = await sample_of(address_of(pg18), login_of(MONITOR))
    assert sample.server_version_num == int(pg18.value("SHOW server_version_num"))
    assert sample.max_connections == int(pg18.value("SHOW max_connections"))
    assert sample.system_identifier == pg18.value(
        "SELECT system_identifier FROM pg_control_system()"
    )


async def test_probe_speaks_to_postgresql_16(pg16: Postgres) -> None:
    sample = await sample_of(address_of(pg16), login_of(MONITOR))
    assert (sample.reason, (sample.server_version_num or 0) // 10000) == ("", 16)


async def test_probe_tells_a_read_only_default(pg18: Postgres) -> None:
    pg18.execute(f"ALTER ROLE {MONITOR.name} SET default_transaction_read_only = on")
    try:
        sample = await sample_of(address_of(pg18), login_of(MONITOR))
    finally:
        pg18.execute(f"ALTER ROLE {MONITOR.name} RESET default_transaction_read_only")
    assert sample.read_only


async def test_probe_keeps_one_connection_under_its_own_name(pg18: Postgres) -> None:
    sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgweir monitor'"
    # A proxy that another test has just stopped may not have lost its sessions yet.
    others = {pid for (pid,) in await asyncio.to_thread(pg18.fetch, sessions)}

    async def ours() -> set[int]:
        return {pid for (pid,) in await asyncio.to_thread(pg18.fetch, sessions)} - others

    async with probing(address_of(pg18), login_of(MONITOR)) as probe:
        await probe.sample()
        first = await ours()
        await probe.sample()
        assert await ours() == first
    assert len(first) == 1


async def test_probe_needs_one_round_trip(pg18: Postgres) -> None:
    async with through_a_wire(pg18) as wire, probing(wire.address, login_of(MONITOR)) as probe:
        await probe.sample()
        wire.turns.clear()
        assert (await probe.sample()).ok
        assert wire.turns == ["question", "answer"]


async def test_probe_asks_a_host_name_again_now_and_then(pg18: Postgres) -> None:
    now = [0.0]
    async with through_a_wire(pg18) as wire:
        probe = Probe(wire.address, login_of(MONITOR), timeout_s=10.0, clock=lambda: now[0])
        async with aclosing(probe):
            await probe.sample()
            now[0] += 31.0
            assert (await probe.sample()).ok
            assert wire.dialled == 2


async def test_a_host_that_cannot_be_dialled_again_is_judged_by_the_connection_it_has(
    pg18: Postgres,
) -> None:
    now = [0.0]
    async with through_a_wire(pg18) as wire:
        probe = Probe(wire.address, login_of(MONITOR), timeout_s=10.0, clock=lambda: now[0])
        async with aclosing(probe):
            await probe.sample()
            wire.server.close()
            now[0] += 31.0
            assert (await probe.sample()).reason == ""


async def test_nonsense_where_a_host_is_dialled_again_leaves_the_connection_it_has(
    pg18: Postgres,
) -> None:
    async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # An authentication request that is too short.
        writer.write(b"R\0\0\0\5\0")
        writer.close()

    now = [0.0]
    async with through_a_wire(pg18) as wire:
        probe = Probe(wire.address, login_of(MONITOR), timeout_s=10.0, clock=lambda: now[0])
        async with aclosing(probe):
            await probe.sample()
            wire.server.close()
            server = await asyncio.start_server(talk_nonsense, "127.0.0.1", wire.address.port)
            now[0] += 31.0
            assert (await probe.sample()).reason == ""
            server.close()


async def test_probe_goes_through_a_unix_socket(pg18: Postgres) -> None:
    address = NodeAddress(pg18.name, str(pg18.socket_dir), pg18.port)
    assert (await sample_of(address, login_of(TRUST_USER, mode="prefer"))).reason == ""


async def test_probe_resolves_a_name(pg18: Postgres) -> None:
    address = NodeAddress(pg18.name, "localhost", pg18.port)
    assert (await sample_of(address, login_of(MONITOR))).reason == ""


async def test_a_name_nobody_knows_is_told_as_such() -> None:
    sample = await sample_of(NodeAddress("db1", "db1.invalid", 5432), login_of(MONITOR))
    assert sample.failure is Failure.NAME_UNKNOWN


async def test_a_wrong_password_is_told_as_a_refused_login(pg18: Postgres) -> None:
    sample = await sample_of(address_of(pg18), ProbeLogin(MONITOR.name, "wrong"))
    assert sample.failure is Failure.LOGIN_REFUSED
    assert sample.reason.startswith("28P01")


async def test_probe_recovers_when_its_session_is_ended_by_an_operator(pg18: Postgres) -> None:
    async with probing(address_of(pg18), login_of(MONITOR)) as probe:
        await probe.sample()
        await asyncio.to_thread(
            pg18.execute,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'pgweir monitor'",
        )
        assert (await probe.sample()).reason == ""


async def test_probe_without_pg_monitor_warns_once_and_still_sees_the_receiver(
    pg_replicated: PostgresCluster, caplog: pytest.LogCaptureFixture
) -> None:
    address = address_of(pg_replicated.replicas[0])
    async with probing(address, login_of(PLAIN_USER)) as probe:
        await probe.sample()
        sample = await probe.sample()
    assert (sample.streaming, sample.timeline) == (True, None)
    assert [r.levelname for r in caplog.records if "pg_monitor" in r.getMessage()] == ["WARNING"]


async def test_probe_does_without_the_control_file_when_its_functions_are_revoked(
    pg18: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    # A database of its own: rights on functions belong to the database.
    pg18.execute("CREATE DATABASE guarded")
    try:
        for function in ("pg_control_system()", "pg_control_checkpoint()"):
            pg18.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC", "guarded")
        async with probing(address_of(pg18), login_of(MONITOR, "guarded")) as probe:
            await probe.sample()
            sample = await probe.sample()
        assert (sample.reason, sample.timeline, sample.system_identifier) == ("", 1, None)
        assert len([r for r in caplog.records if "control file" in r.getMessage()]) == 1
    finally:
        pg18.execute("DROP DATABASE guarded WITH (FORCE)")


async def test_an_answer_that_comes_after_the_timeout_is_late_and_not_lost(
    pg_replicated: PostgresCluster,
) -> None:
    node = pg_replicated.replicas[1]
    async with probing(address_of(node), login_of(MONITOR), timeout_s=0.3) as probe:
        await probe.sample()
        node.freeze()
        try:
            assert (await probe.sample()).failure is Failure.NO_ANSWER
        finally:
            node.thaw()
        sample = await probe.sample()
    assert sample.ok
    assert sample.round_trip_s > 0.3


async def test_a_probe_cancelled_while_dialling_leaves_no_task_and_no_connection() -> None:
    async with silent_listener() as address:
        before, tasks = open_sockets(), asyncio.all_tasks()
        probe = Probe(address, login_of(MONITOR, mode="prefer"), timeout_s=60.0)
        asking = asyncio.create_task(probe.sample())
        await until_true(lambda: open_sockets() > before)
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        assert not {t for t in asyncio.all_tasks() - tasks if t.get_name().startswith("probe")}
    await until_true(lambda: open_sockets() < before)


async def test_a_probe_cancelled_while_the_node_hangs_leaves_no_task_and_no_connection(
    pg_replicated: PostgresCluster,
) -> None:
    node = pg_replicated.replicas[1]
    before, tasks = open_sockets(), asyncio.all_tasks()
    probe = Probe(address_of(node), login_of(MONITOR), timeout_s=60.0)
    await probe.sample()
    node.freeze()
    try:
        asking = asyncio.create_task(probe.sample())
        # Let it send its question; nothing will ever tell that it has.
        await asyncio.wait({asking}, timeout=0.1)
        asking.cancel()
        await asyncio.wait({asking}, timeout=DEADLINE_S)
        assert asking.cancelled()
        assert asyncio.all_tasks() == tasks
        await until_true(lambda: open_sockets() == before)
    finally:
        node.thaw()


@pytest.mark.parametrize(
    ("tls", "encrypted"),
    [
        ({"mode": "disable"}, None),
        ({"mode": "allow"}, True),
        ({"mode": "prefer"}, True),
        ({"mode": "require"}, True),
        ({"mode": "verify-ca", "ca": True}, True),
        ({"mode": "verify-full", "ca": True}, True),
        ({"mode": "verify-full"}, None),
    ],
)
async def test_probe_uses_tls_as_its_mode_says(
    pg_tls: PostgresWithTls, tls: dict[str, Any], encrypted: bool | None
) -> None:
    # This user is let in with TLS only; None: not let in at all.
    ca = pg_tls.certificates.ca if tls.get("ca") else None
    login = login_of(TLS_USER, mode=tls["mode"], ca=ca)
    async with probing(address_of(pg_tls), login) as probe:
        sample = await probe.sample()
        seen = await asyncio.to_thread(
            pg_tls.value,
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'pgweir monitor'",
        )
    assert (sample.ok, seen) == (encrypted is not None, encrypted)


async def test_probe_prefers_tls_and_does_without_where_there_is_none(pg18: Postgres) -> None:
    assert (await sample_of(address_of(pg18), login_of(MONITOR, mode="prefer"))).reason == ""


async def test_probe_refuses_a_node_without_tls_when_it_is_required(pg18: Postgres) -> None:
    sample = await sample_of(address_of(pg18), login_of(MONITOR, mode="require"))
    assert sample.failure is Failure.BROKEN


async def test_probe_shows_its_certificate(pg_tls: PostgresWithTls) -> None:
    shown = pg_tls.certificates
    login = login_of(CERT_USER, mode="require", cert=shown.client_cert, key=shown.client_key)
    assert (await sample_of(address_of(pg_tls), login)).reason == ""


# -- the monitor


async def test_monitor_discovers_the_primary_and_its_replicas(
    pg_replicated: PostgresCluster,
) -> None:
    first, second, third = (node.name for node in pg_replicated.nodes)
    async with watching(addresses_of(pg_replicated), login_of(MONITOR)) as watched:
        view = await watched.until(is_settled)
    assert (view.primary, [node.name for node in view.replicas]) == (first, [second, third])


async def test_replicas_that_have_everything_show_no_lag(pg_replicated: PostgresCluster) -> None:
    pg_replicated.until_caught_up()
    async with watching(addresses_of(pg_replicated), login_of(MONITOR)) as watched:
        await watched.until(
            lambda view: (
                is_settled(view) and all((r.lag_bytes, r.lag_s) == (0, 0.0) for r in view.replicas)
            )
        )


async def test_lag_of_a_replica_that_does_not_replay_grows(pg_replicated: PostgresCluster) -> None:
    node = pg_replicated.replicas[0]

    def write() -> None:
        pg_replicated.primary.execute(
            "CREATE TABLE IF NOT EXISTS lagging (v text);"
            "INSERT INTO lagging SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        )

    node.pause_replay()
    try:
        async with watching(addresses_of(pg_replicated), login_of(MONITOR)) as watched:
            await watched.until(is_settled)
            await asyncio.to_thread(write)
            view = await watched.until(lambda v: (v.node(node.name).lag_bytes or 0) > 1_000_000)
            before = view.node(node.name)
            await asyncio.to_thread(write)
            await watched.until(
                lambda v: (
                    (v.node(node.name).lag_bytes or 0) > (before.lag_bytes or 0) + 1_000_000
                    and (v.node(node.name).lag_s or 0) > (before.lag_s or 0)
                )
            )
            node.resume_replay()
            await watched.until(lambda v: v.node(node.name).lag_bytes == 0)
    finally:
        node.resume_replay()
        pg_replicated.primary.execute("DROP TABLE IF EXISTS lagging")


async def test_a_hanging_node_does_not_delay_the_discovery_of_the_primary(
    pg_replicated: PostgresCluster,
) -> None:
    async with silent_listener() as silent:
        nodes = [silent, *addresses_of(pg_replicated)]
        async with watching(nodes, login_of(MONITOR), timeout_s=60.0) as watched:
            view = await watched.until(lambda view: view.primary is not None)
    assert (view.primary, view.node("silent").state) == (pg_replicated.primary.name, "unknown")


async def test_a_frozen_replica_times_out_and_comes_back(pg_replicated: PostgresCluster) -> None:
    node = pg_replicated.replicas[1]
    async with watching(addresses_of(pg_replicated), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        node.freeze()
        try:
            view = await watched.until(lambda view: view.node(node.name).state == "down")
        finally:
            node.thaw()
        await watched.until(is_settled)
    assert "no answer within" in view.node(node.name).reason
    assert watched.story_of(node.name)[-4:] == ["up", "suspect", "down", "up"]


async def test_a_frozen_replica_leaves_the_others_alone(pg_replicated: PostgresCluster) -> None:
    node, *others = reversed(pg_replicated.nodes)
    async with watching(addresses_of(pg_replicated), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        node.freeze()
        try:
            await watched.until(lambda view: view.node(node.name).state == "down")
        finally:
            node.thaw()
    for other in others:
        assert watched.story_of(other.name)[-1] == "up"
        assert "suspect" not in watched.story_of(other.name)


async def test_a_killed_primary_is_suspect_then_down_and_up_again_after_its_restart(
    start_cluster: Callable[..., PostgresCluster],
) -> None:
    cluster = start_cluster(replicas=2)
    name = cluster.primary.name
    async with watching(addresses_of(cluster), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        await asyncio.to_thread(cluster.primary.kill)
        await watched.until(lambda view: view.node(name).state == "down")
        suspect = next(v for v in watched.published if v.node(name).state == "suspect")
        down = watched.monitor.view
        await asyncio.to_thread(cluster.primary.start)
        await watched.until(lambda view: view.primary == name)
    assert (suspect.primary, down.primary) == (name, None)
    assert watched.story_of(name)[-4:] == ["up", "suspect", "down", "up"]


async def test_the_death_of_the_primary_is_noticed_long_before_the_next_turn(
    start_cluster: Callable[..., PostgresCluster],
) -> None:
    cluster = start_cluster()
    name = cluster.primary.name
    settings = {"interval_s": 3600.0, "timeout_s": 1.0}
    async with watching(addresses_of(cluster), login_of(MONITOR), **settings) as watched:
        await watched.until(is_settled)
        await asyncio.to_thread(cluster.primary.kill)
        await watched.until(lambda view: view.node(name).state == "suspect")


async def test_a_replica_promoted_by_hand_is_the_primary_and_the_old_one_is_kept_out(
    start_cluster: Callable[..., PostgresCluster],
) -> None:
    cluster = start_cluster(replicas=1)
    old, new = cluster.nodes
    async with watching(addresses_of(cluster), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        # Both are up: only the timeline tells them apart.
        await asyncio.to_thread(new.promote)
        view = await watched.until(lambda view: view.primary == new.name)
        assert (view.node(new.name).timeline, view.node(old.name).role) == (2, None)
        await asyncio.to_thread(old.restart)
        view = await watched.until(
            lambda view: view.node(old.name).state == "up" and view.node(old.name).role is None
        )
    assert view.primary == new.name
    assert "kept out" in view.node(old.name).reason


async def test_replicas_of_a_dead_primary_are_stale_and_stay_known(
    start_cluster: Callable[..., PostgresCluster],
) -> None:
    cluster = start_cluster(replicas=1)
    replica = cluster.replicas[0].name
    async with watching(addresses_of(cluster), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        await asyncio.to_thread(cluster.primary.kill)
        view = await watched.until(lambda view: view.node(replica).stale)
    assert (view.node(replica).state, view.node(replica).role) == ("up", "replica")


async def test_a_node_of_another_cluster_is_refused(
    pg_replicated: PostgresCluster, pg18: Postgres
) -> None:
    stranger = NodeAddress("stranger", pg18.host, pg18.port)
    nodes = [*addresses_of(pg_replicated), stranger]
    async with watching(nodes, login_of(MONITOR)) as watched:
        view = await watched.until(is_settled)
    assert view.primary == pg_replicated.primary.name
    assert view.node("stranger").reason.startswith("refused: system identifier")


async def test_a_single_node_that_refuses_the_probe_is_published_as_primary(
    pg18: Postgres,
) -> None:
    async with watching([address_of(pg18)], ProbeLogin(MONITOR.name, "wrong")) as watched:
        view = await watched.until(lambda view: view.primary == pg18.name)
    assert "presumed" in view.reason


async def test_a_poke_is_answered_by_a_probe_at_once(pg18: Postgres) -> None:
    async with watching([address_of(pg18)], login_of(MONITOR), interval_s=3600.0) as watched:
        view = await watched.until(is_settled)
        before = view.node(pg18.name).sampled_at or 0.0
        watched.monitor.poke(pg18.name)
        await watched.until(lambda view: (view.node(pg18.name).sampled_at or 0.0) > before)


async def test_a_poke_at_an_unknown_node_is_ignored(pg18: Postgres) -> None:
    async with watching([address_of(pg18)], login_of(MONITOR)) as watched:
        watched.monitor.poke("nobody")
        await watched.until(is_settled)


async def test_a_shorter_interval_holds_at_once(pg18: Postgres) -> None:
    async with watching([address_of(pg18)], login_of(MONITOR), interval_s=3600.0) as watched:
        view = await watched.until(is_settled)
        first = view.node(pg18.name).sampled_at or 0.0
        watched.monitor.set_interval(0.05)
        await watched.until(lambda view: (view.node(pg18.name).sampled_at or 0.0) > first + 0.15)


async def test_nodes_can_be_added_and_removed_while_watching(
    pg_replicated: PostgresCluster,
) -> None:
    primary, replica, other = addresses_of(pg_replicated)
    async with watching([primary, replica], login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        await watched.monitor.set_nodes([primary, other])
        view = await watched.until(is_settled)
    assert [node.name for node in view.nodes] == [primary.name, other.name]
    assert all(view.primary == primary.name for view in watched.published if is_settled(view))


async def test_a_publisher_that_fails_does_not_end_the_watch(
    pg18: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(view: ClusterView) -> None:
        raise RuntimeError("not today")

    async with watching([address_of(pg18)], login_of(MONITOR), publish=fail) as watched:
        await watched.until(is_settled)
    assert "publishing the view of cluster main failed" in caplog.text


async def test_monitor_ends_by_cancellation_and_leaves_nothing_behind(
    pg_replicated: PostgresCluster,
) -> None:
    before, tasks = open_sockets(), asyncio.all_tasks()
    async with silent_listener() as silent:
        nodes = [silent, *addresses_of(pg_replicated)]
        async with watching(nodes, login_of(MONITOR)) as watched:
            await watched.until(lambda view: view.primary is not None)
    await until_true(lambda: asyncio.all_tasks() == tasks)
    await until_true(lambda: open_sockets() == before)


async def test_each_change_is_logged_once_and_without_secrets(
    start_cluster: Callable[..., PostgresCluster], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="pgweir.cluster")
    cluster = start_cluster()
    name = cluster.primary.name
    async with watching(addresses_of(cluster), login_of(MONITOR)) as watched:
        await watched.until(is_settled)
        await asyncio.to_thread(cluster.primary.kill)
        await watched.until(lambda view: view.node(name).state == "down")
    lines = [r.getMessage() for r in caplog.records if r.name == "pgweir.cluster"]
    assert [line.split(":")[0] for line in lines] == [
        f"node {name} is up as primary",
        f"{name} is the primary of cluster main",
        f"node {name} is suspect as primary",
        f"node {name} is down as primary",
        "cluster main has no primary",
    ]
    assert MONITOR.password not in caplog.text
