"""A run from start to end, as short as it can be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.contestants import find_program
from benchmarks.cores import assign
from benchmarks.failure import BenchmarkError
from benchmarks.processes import cpu_ns, family

ROOT = Path(__file__).parents[2]


def is_missing(program: str) -> bool:
    try:
        find_program(program)
    except BenchmarkError:
        return True
    return False


needs_peers = pytest.mark.skipif(
    is_missing("pgbouncer")
    or is_missing("haproxy")
    or shutil.which("cc") is None
    or shutil.which("pgbench") is None
    or len(os.sched_getaffinity(0)) < 2,
    reason="needs pgbouncer, haproxy, pgbench, a C compiler and two cores",
)


def bench(*flags: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", "--contestants", "pgbouncer,haproxy", *flags]


@needs_peers
def test_a_run_measures_everybody(tmp_path: Path):
    file = tmp_path / "results.json"
    flags = ("--cases", "full-simple-64", "--rounds", "1", "--json", str(file))
    done = subprocess.run(bench(*flags), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [case] = json.loads(file.read_text())
    measured = {name: samples[0]["cpu_us"] > 0 for name, samples in case["samples"].items()}
    assert measured == {"pgbouncer": True, "haproxy": True}


@needs_peers
def test_an_interrupted_run_leaves_no_process():
    running = subprocess.Popen(
        bench("--cases", "full-simple-64", "--rounds", "50"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    first = running.stderr.readline()  # a round is over: all of them run
    children = family(running.pid) - {running.pid}
    running.send_signal(signal.SIGINT)
    try:
        running.communicate(timeout=60)
    finally:
        running.kill()
    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert ("round 1" in first, len(children) >= 3, left) == (True, True, [])


def test_an_unknown_case_is_bad_usage():
    done = subprocess.run(
        bench("--cases", "nonsense"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")


def test_with_two_cores_the_proxy_has_one_to_itself():
    cores = assign([0, 1], pinned=True)
    assert (cores.proxy, cores.server, cores.load) == ({0}, {1}, {1})


def test_with_more_cores_the_server_has_one_too():
    cores = assign([0, 1, 2, 3], pinned=True)
    assert (cores.proxy, cores.server, cores.load) == ({0}, {1}, {2, 3})


def test_one_core_is_too_few():
    with pytest.raises(BenchmarkError, match="two cores"):
        assign([0], pinned=True)


def test_cpu_time_of_a_child_that_ended_still_counts():
    spin = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    before = cpu_ns(os.getpid())
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert cpu_ns(os.getpid()) - before > 150_000_000


def test_a_process_that_is_gone_has_no_family():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=30)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{gone.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert family(gone.pid) == set()
