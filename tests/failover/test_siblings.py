"""Processes of one machine agree on who promotes, and a dead one keeps nobody from it."""

import subprocess
import sys

from proxy.failover import SiblingsLease

NODES = [("10.9.9.1", 5432), ("10.9.9.2", 5432)]


async def test_one_process_has_it_and_gives_it_back() -> None:
    one, other = SiblingsLease(NODES), SiblingsLease(list(reversed(NODES)))
    grant = await one.take("db2")
    assert grant is not None
    assert grant.is_valid
    assert await other.take("db2") is None
    await grant.finish(10.0)
    assert not grant.is_valid
    later = await other.take("db3")
    assert later is not None
    assert later.node == "db3"
    await later.abandon(began=True)


async def test_another_cluster_has_a_lease_of_its_own() -> None:
    one = await SiblingsLease(NODES).take("db2")
    other = await SiblingsLease(NODES[:1]).take("db2")
    assert one is not None
    assert other is not None
    one.drop()
    other.drop()


async def test_a_process_that_dies_has_it_no_more() -> None:
    held = (
        "import asyncio, sys; from proxy.failover import SiblingsLease;"
        f"grant = asyncio.run(SiblingsLease({NODES!r}).take('db2'));"
        "print(grant is not None, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert await SiblingsLease(NODES).take("db3") is None
        process.kill()
    grant = await SiblingsLease(NODES).take("db3")
    assert grant is not None
    grant.drop()
