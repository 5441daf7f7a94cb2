"""Whatever becomes of us, nothing is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.embedded import Cluster, ClusterSpec
from proxy.embedded.sweep import programs_in

pytestmark = pytest.mark.live

OWNER = """
import asyncio, sys
from pathlib import Path
from proxy.embedded import Cluster, ClusterSpec

async def own():
    keep = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    cluster = Cluster(ClusterSpec(replicas=int(sys.argv[1]), keep=keep), lambda step: print(step))
    starting = asyncio.create_task(cluster.start())
    while cluster._guardian is None:
        await asyncio.sleep(0)
    print("folder", cluster.folder, flush=True)
    await starting
    await cluster.primary.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 42 AS n")
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


class Owner:
    """Another process that owns a cluster, to be killed."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", OWNER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = Path(self._line_with("folder").split()[1])

    def until_ready(self) -> None:
        self._line_with("ready")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _line_with(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        raise AssertionError(f"the owner ended before it said {word!r}")


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    started: list[Owner] = []
    yield started
    for owner in started:
        if owner.process.poll() is None:
            owner.kill()


def until_gone(*folders: Path, limit_s: float = 20.0) -> None:
    """Wait until no program works in any of the folders and the first does not exist."""
    deadline = time.monotonic() + limit_s
    while programs_in(list(folders)) or folders[0].exists():
        assert time.monotonic() < deadline, f"left in {folders}: {programs_in(list(folders))}"
        time.sleep(0.05)


def system_v_segments(creator: int) -> list[str]:
    """What the process with this id has made of shared memory, and is still there."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    column = lines[0].split().index("cpid")
    return [line for line in lines[1:] if line.split()[column] == str(creator)]


def test_a_killed_owner_leaves_no_process_and_no_folder(owners: list[Owner]):
    owner = Owner(1)
    owners.append(owner)
    owner.until_ready()
    owner.kill()
    until_gone(owner.folder)


def test_an_owner_killed_while_it_starts_leaves_nothing(owners: list[Owner]):
    owner = Owner(2)
    owners.append(owner)
    owner.kill()
    until_gone(owner.folder)


def test_shared_memory_of_a_killed_postmaster_is_freed(owners: list[Owner]):
    owner = Owner(0)
    owners.append(owner)
    owner.until_ready()
    (postmaster,) = [pid for pid in programs_in([owner.folder]) if _is_leader(pid)]
    assert system_v_segments(postmaster)
    os.kill(postmaster, signal.SIGKILL)
    owner.kill()
    until_gone(owner.folder)
    assert not system_v_segments(postmaster)


def test_a_frozen_postmaster_is_removed_as_well(owners: list[Owner]):
    owner = Owner(0)
    owners.append(owner)
    owner.until_ready()
    for pid in programs_in([owner.folder]):
        os.kill(pid, signal.SIGSTOP)
    owner.kill()
    until_gone(owner.folder)


async def test_a_killed_owner_leaves_kept_data_whole(owners: list[Owner], open_folder: Path):
    keep = open_folder / "data"
    owner = Owner(0, keep)
    owners.append(owner)
    owner.until_ready()
    owner.kill()
    await asyncio.to_thread(until_gone, owner.folder, keep)
    async with Cluster(ClusterSpec(keep=keep)) as cluster:
        assert await cluster.primary.value("SELECT n FROM t") == 42


async def test_a_cluster_whose_guardian_was_killed_still_removes_everything():
    cluster = Cluster(ClusterSpec())
    await cluster.start()
    folder = cluster.folder
    assert cluster._guardian is not None
    cluster._guardian._process.kill()
    await cluster.close()
    assert not folder.exists()


def test_a_stranger_in_the_folder_is_left_alone(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as stranger:
        try:
            assert programs_in([tmp_path]) == set()
        finally:
            stranger.kill()


def _is_leader(pid: int) -> bool:
    """Whether a process is a postmaster: its title is still its command line."""
    return b"\0-D\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
