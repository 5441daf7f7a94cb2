"""A cluster from nothing to ready, through accidents, and back to nothing."""

import asyncio
import os
import pwd
import socket
from pathlib import Path

import pytest

from proxy.embedded import (
    Cluster,
    ClusterSpec,
    EmbeddedError,
    Node,
    StopMode,
    bundled,
    free_port,
)
from proxy.embedded.node import until
from proxy.embedded.sweep import programs_in

pytestmark = pytest.mark.live
SINGLE = ClusterSpec()


async def is_streaming(primary: Node) -> bool:
    return bool(
        await primary.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
    )


async def test_what_the_primary_writes_arrives_at_the_replica():
    async with Cluster(ClusterSpec(replicas=1)) as cluster:
        await cluster.primary.execute("CREATE TABLE t AS SELECT 42 AS n")
        await cluster.until_caught_up()
        assert await cluster.replicas[0].value("SELECT n FROM t") == 42


async def test_a_replica_goes_on_streaming_after_it_was_killed_and_restarted():
    async with Cluster(ClusterSpec(replicas=1)) as cluster:
        await cluster.replicas[0].kill()
        await cluster.primary.execute("CREATE TABLE t AS SELECT 42 AS n")
        await cluster.replicas[0].restart()
        await cluster.until_caught_up()
        assert await cluster.replicas[0].value("SELECT n FROM t") == 42


async def test_replication_needs_the_password():
    async with Cluster(SINGLE) as cluster:
        with pytest.raises(EmbeddedError, match="password authentication failed"):
            async with cluster.primary.connection(user="replicator", password="wrong"):
                pass


async def test_nothing_is_left_after_closing():
    async with Cluster(ClusterSpec(replicas=1)) as cluster:
        folder = cluster.folder
    assert not folder.exists()
    assert not programs_in([folder])


async def test_nothing_is_left_when_a_setting_prevents_the_start():
    said: list[str] = []
    cluster = Cluster(ClusterSpec(settings={"shared_buffers": "nonsense"}), said.append)
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        await cluster.start()
    with pytest.raises(AssertionError, match="not started"):
        _ = cluster.folder


async def test_nothing_is_left_when_the_start_is_cancelled(open_folder: Path):
    cluster = Cluster(ClusterSpec(replicas=2, keep=open_folder))
    starting = asyncio.create_task(cluster.start())

    async def primary_runs() -> bool:
        return bool(cluster.nodes and cluster.nodes[0].pid)

    await until(primary_runs, "the primary did not start")
    folder = cluster.folder
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not folder.exists()
    assert not programs_in([open_folder])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop its privileges")
async def test_as_root_the_servers_run_as_somebody_else():
    async with Cluster(SINGLE) as cluster:
        assert _owner_of(cluster.primary.pid) in {"postgres", "nobody"}


async def test_the_postmaster_is_not_in_our_process_group():
    async with Cluster(SINGLE) as cluster:
        assert cluster.primary.pid is not None
        assert os.getpgid(cluster.primary.pid) != os.getpgid(0)


async def test_data_survives_a_kill_and_a_restart_on_the_same_port():
    async with Cluster(SINGLE) as cluster:
        node = cluster.primary
        await node.execute("CREATE TABLE t AS SELECT 42 AS n")
        port = node.port
        await node.kill()
        await node.restart()
        assert (node.port, await node.value("SELECT n FROM t")) == (port, 42)


async def test_a_killed_node_leaves_no_process():
    async with Cluster(SINGLE) as cluster, cluster.primary.connection() as connection:
        busy = asyncio.create_task(connection.fetchval("SELECT pg_sleep(600)"))

        async def is_busy() -> bool:
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            return bool(await cluster.primary.value(query))

        await until(is_busy, "the query did not start")
        await cluster.primary.kill()
        assert not programs_in([cluster.primary.place.data])
        await asyncio.wait({busy})
        assert busy.exception() is not None


async def test_a_postmaster_killed_alone_can_be_restarted():
    async with Cluster(SINGLE) as cluster:
        await cluster.primary.kill_postmaster()
        await cluster.primary.kill()
        await cluster.primary.start()
        assert await cluster.primary.value("SELECT 1") == 1


@pytest.mark.parametrize("mode", list(StopMode))
async def test_a_node_stops_in_every_mode_and_starts_again(mode: StopMode):
    async with Cluster(SINGLE) as cluster:
        await cluster.primary.stop(mode)
        assert cluster.primary.pid is None
        await cluster.primary.start()
        assert await cluster.primary.value("SELECT 1") == 1


async def test_a_node_that_waits_for_its_clients_for_ever_is_killed():
    async with Cluster(SINGLE) as cluster, cluster.primary.connection():
        with pytest.raises(EmbeddedError, match="did not stop"):
            await cluster.primary.stop(StopMode.SMART, timeout_s=0.2)
        assert cluster.primary.pid is None


async def test_a_frozen_node_says_nothing_until_it_is_thawed():
    async with Cluster(SINGLE) as cluster, cluster.primary.connection() as connection:
        cluster.primary.freeze()
        answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({answer}, timeout=0.3)
        cluster.primary.thaw()
        assert (done, await answer) == (set(), 1)


async def test_a_frozen_node_can_be_stopped():
    async with Cluster(SINGLE) as cluster:
        cluster.primary.freeze()
        await cluster.primary.stop(StopMode.FAST, timeout_s=10)
        assert cluster.primary.pid is None


async def test_a_promoted_replica_accepts_writes_and_the_old_primary_follows_it():
    async with Cluster(ClusterSpec(replicas=1)) as cluster:
        old, new = cluster.nodes
        await old.kill()
        await new.promote()
        await new.execute("CREATE TABLE t AS SELECT 42 AS n")
        await cluster.rebuild(old)
        await cluster.until_caught_up()
        assert (await old.is_in_recovery(), await old.value("SELECT n FROM t")) == (True, 42)


async def test_a_replica_whose_replay_is_paused_lags():
    async with Cluster(ClusterSpec(replicas=1)) as cluster:
        replica = cluster.replicas[0]
        await replica.pause_replay()
        await cluster.primary.execute("CREATE TABLE t (n int)")
        with pytest.raises(EmbeddedError, match="did not catch up"):
            await cluster.until_caught_up(limit_s=0.3)
        await replica.resume_replay()
        await cluster.until_caught_up()


async def test_a_node_takes_another_port_when_it_loses_the_race_for_its_own():
    async with Cluster(SINGLE) as cluster:
        node = cluster.primary
        await node.stop()
        with socket.create_server(("127.0.0.1", free_port())) as thief:
            taken = thief.getsockname()[1]
            node.move(taken)
            await cluster.start_somewhere(node, None)
            assert node.port != taken


async def test_kept_data_is_there_at_the_next_start(open_folder: Path):
    keep = open_folder / "data"
    async with Cluster(ClusterSpec(keep=keep)) as cluster:
        await cluster.primary.execute("CREATE TABLE t AS SELECT 42 AS n")
    async with Cluster(ClusterSpec(replicas=1, keep=keep)) as cluster:
        assert await cluster.replicas[0].value("SELECT n FROM t") == 42


async def test_kept_data_goes_on_from_the_node_that_was_promoted(open_folder: Path):
    keep = open_folder / "data"
    async with Cluster(ClusterSpec(replicas=1, keep=keep)) as cluster:
        await cluster.primary.stop()
        await cluster.replicas[0].promote()
        await cluster.replicas[0].execute("CREATE TABLE t AS SELECT 42 AS n")
    async with Cluster(ClusterSpec(replicas=1, keep=keep)) as cluster:
        assert await cluster.primary.value("SELECT n FROM t") == 42


async def test_kept_data_is_shut_down_cleanly(open_folder: Path):
    keep = open_folder / "data"
    async with Cluster(ClusterSpec(keep=keep)):
        pass
    async with Cluster(ClusterSpec(keep=keep)) as cluster:
        assert "was not properly shut down" not in cluster.primary.read_log()


async def test_kept_data_without_a_primary_is_left_as_it_is(open_folder: Path):
    keep = open_folder / "data"
    async with Cluster(ClusterSpec(replicas=1, keep=keep)):
        pass
    (keep / "db1").rename(open_folder / "elsewhere")
    with pytest.raises(EmbeddedError, match="replicas only"):
        await Cluster(ClusterSpec(keep=keep)).start()
    assert (keep / "db2" / "standby.signal").exists()


async def test_a_folder_with_something_else_in_it_is_not_taken_for_data(open_folder: Path):
    (open_folder / "thesis.tex").write_text("x")
    with pytest.raises(EmbeddedError, match="neither empty nor data kept"):
        await Cluster(ClusterSpec(keep=open_folder)).start()


async def test_two_clusters_do_not_share_one_folder_of_data(open_folder: Path):
    keep = open_folder / "data"
    async with Cluster(ClusterSpec(keep=keep)):
        with pytest.raises(EmbeddedError, match="in use by another run"):
            await Cluster(ClusterSpec(keep=keep)).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's PostgreSQL goes where the user goes")
async def test_a_folder_that_postgresql_cannot_enter_is_refused_and_not_made(
    tmp_path: Path,
):
    with pytest.raises(EmbeddedError, match="cannot enter"):
        await Cluster(ClusterSpec(keep=tmp_path / "shut" / "data")).start()
    assert not (tmp_path / "shut").exists()


async def test_version_16_runs_and_streams_as_well():
    async with Cluster(ClusterSpec(replicas=1, binaries=bundled(16))) as cluster:
        assert await is_streaming(cluster.primary)


async def test_several_hundred_connections_can_be_allowed():
    async with Cluster(ClusterSpec(max_connections=600)) as cluster:
        assert await cluster.primary.value("SHOW max_connections") == "600"


async def test_a_unix_socket_is_offered():
    async with Cluster(SINGLE) as cluster:
        folder = cluster.primary.socket_dir
        assert folder is not None
        assert (folder / f".s.PGSQL.{cluster.primary.port}").is_socket()


def _owner_of(pid: int | None) -> str:
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
