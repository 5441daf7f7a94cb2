"""`pgweir demo` from outside, with a small stand-in for the proxy where it would serve."""

import asyncio
import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy import config
from proxy.embedded import free_port
from proxy.embedded.sweep import programs_in

pytestmark = pytest.mark.live

# Stands in for the proxy: keeps the configuration for the test to read, and serves nothing.
RUN = """
import asyncio, os, sys
from pathlib import Path
from proxy.cli.demo import demo

async def serve(config, on_ready):
    Path(os.environ["CONFIG_COPY"]).write_text(config.read_text())
    print("folder", config.parent)
    if os.environ.get("BREAK"):
        raise OSError("no space left on the device")
    on_ready("nowhere")
    await asyncio.Event().wait()

options = eval(os.environ["OPTIONS"])
if options.get("keep"):
    options["keep"] = Path(options["keep"])
sys.exit(asyncio.run(demo(
    serve=serve,
    say=lambda line: print(line, flush=True),
    complain=lambda line: print(line, file=sys.stderr, flush=True),
    **options,
)))
"""


class Demo:
    """A demo in another process."""

    def __init__(self, copy: Path, *, broken: bool = False, **options: object) -> None:
        self.copy = copy
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            env=os.environ
            | {"CONFIG_COPY": str(copy), "OPTIONS": repr(options), "BREAK": "1" if broken else ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_until(self, word: str) -> str:
        """Read the output up to the line that contains `word`."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if word in line:
                return said
        raise AssertionError(f"never said {word!r}: {said}")

    def end(self, number: int | None = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal and wait: exit code, remaining output, complaints."""
        if number is not None:
            self.process.send_signal(number)
        out, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, out, complaints


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[object]:
    started: list[Demo] = []

    def start(**options: object) -> Demo:
        started.append(Demo(tmp_path / "copy.yaml", **options))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.end()


def folder_in(said: str) -> Path:
    found = re.search(r"^folder (.+)$", said, re.MULTILINE)
    assert found is not None
    return Path(found[1])


@dataclass(frozen=True)
class Shown:
    """A demo with two replicas as it is once it is ready."""

    port: int
    said: str
    config: config.Config


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    port = free_port()
    run = Demo(tmp_path_factory.mktemp("shown") / "copy.yaml", replicas=2, port=port)
    try:
        said = run.read_until("Ctrl-C")
        yield Shown(port, said, config.load(run.copy, {}))
    finally:
        run.end()


@pytest.mark.replication
def test_two_replicas_with_data_are_there_once_it_says_so(shown: Shown):
    [password] = re.findall(r"^DATABASE_URL=postgres://app:(\w+)@", shown.said, re.MULTILINE)
    found = []
    for node in shown.config.clusters["main"].nodes:
        place = f"postgres://app:{password}@{node.host}:{node.port}/demo"
        with psycopg.connect(place) as connection:
            found += connection.execute("SELECT pg_is_in_recovery(), count(*) FROM users")
    [(first, count), *others] = found
    assert (first, others) == (False, [(True, count)] * 2)
    assert count > 0


def test_its_configuration_is_one_that_the_proxy_accepts(shown: Shown):
    nodes = shown.config.clusters["main"].nodes
    assert [node.name for node in nodes] == ["db1", "db2", "db3"]


def test_the_read_only_database_is_routed_to_replicas(shown: Shown):
    assert [route.to for route in shown.config.routes] == ["replica"]


def test_the_printed_url_names_the_port_that_was_asked_for(shown: Shown):
    url = rf"^DATABASE_URL=postgres://app:\w+@127.0.0.1:{shown.port}/demo$"
    assert re.search(url, shown.said, re.MULTILINE)


def test_the_printed_programs_can_be_run(shown: Shown):
    (program,) = re.findall(r"load +(\S+) -n", shown.said)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert "pgbench" in said.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing(demo, number: int):
    run = demo(replicas=0)
    folder = folder_in(run.read_until("Ctrl-C"))
    code, _, complaints = run.end(number)
    assert (code, complaints, folder.exists(), programs_in([folder])) == (0, "", False, set())


def test_a_signal_while_it_starts_ends_it_as_well(demo):
    run = demo(replicas=1)
    run.read_until("primary db1")
    code, said, complaints = run.end(signal.SIGTERM)
    assert (code, complaints, "nothing is left" in said) == (0, "", True)


def test_a_second_interrupt_does_not_cut_the_cleaning(demo):
    run = demo(replicas=0)
    folder = folder_in(run.read_until("Ctrl-C"))
    run.process.send_signal(signal.SIGINT)
    run.read_until("stopping")
    code, _, _ = run.end(signal.SIGINT)
    assert (code, folder.exists()) == (0, False)


def test_ctrl_c_at_a_terminal_is_an_orderly_end(tmp_path: Path):
    pid, terminal = pty.fork()
    if pid == 0:  # the child: a session of its own, whose terminal we hold
        os.environ |= {"CONFIG_COPY": str(tmp_path / "copy"), "OPTIONS": "dict(replicas=0)"}
        os.execv(sys.executable, [sys.executable, "-c", RUN])
    said = b""
    while b"Ctrl-C stops" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    try:
        while more := os.read(terminal, 4096):
            said += more
    except OSError:  # Linux: the other end is closed
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert (os.waitstatus_to_exitcode(status), b"nothing is left" in said) == (0, True)


def test_a_port_that_is_taken_is_one_clear_line(demo):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        code, said, complaints = demo(port=port).end(None)
    assert (code, said, complaints.count("\n")) == (1, "", 1)
    assert f"port {port} is taken" in complaints


def test_without_a_port_of_its_own_it_says_which_it_takes_instead(demo):
    with socket.socket() as listening:
        try:
            listening.bind(("127.0.0.1", 6432))
            listening.listen()
        except OSError:
            pass  # somebody has it already, which is the case wanted
        said = demo(replicas=0).read_until("DATABASE_URL=")
    assert "port 6432 is taken" in said


def test_a_proxy_that_cannot_serve_is_one_line_and_leaves_nothing(demo):
    code, said, complaints = demo(replicas=0, broken=True).end(None)
    assert (code, complaints) == (1, "pgweir demo: no space left on the device\n")
    assert not folder_in(said).exists()


def test_a_killed_demo_leaves_nothing(demo):
    run = demo(replicas=1)
    folder = folder_in(run.read_until("Ctrl-C"))
    run.end(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while folder.exists() or programs_in([folder]):
        assert time.monotonic() < deadline, f"left: {programs_in([folder])}"
        time.sleep(0.05)


def test_kept_data_is_found_again_with_the_same_password(demo, open_folder: Path):
    port = free_port()

    def url() -> str:
        run = demo(replicas=0, port=port, keep=str(open_folder / "data"))
        said = run.read_until("Ctrl-C")
        run.end()
        return re.search(r"^DATABASE_URL=.*$", said, re.M)[0]

    assert url() == url()


@pytest.fixture
def whole_demo() -> Iterator[str]:
    """What a demo with the real proxy prints, while it runs."""
    run = subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    said = ""
    while "Ctrl-C" not in said and (line := run.stdout.readline()):
        said += line
    yield said
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 0


@pytest.mark.replication
async def test_writes_go_on_under_the_same_url_when_the_primary_is_killed(whole_demo: str):
    url = re.search(r"^DATABASE_URL=(.*)$", whole_demo, re.M)[1]
    primary = int(re.search(r"kill -9 (\d+)", whole_demo)[1])
    client = await asyncpg.connect(url, ssl=False)
    await client.execute("CREATE TABLE survived (node text)")

    async def write() -> str | None:
        """Which node has taken it, or None where it was lost."""
        with contextlib.suppress(asyncpg.PostgresConnectionError):
            return await client.fetchval(
                "INSERT INTO survived VALUES (current_setting('port')) RETURNING node", timeout=30
            )
        return None

    try:
        before = await write()
        os.kill(primary, signal.SIGKILL)
        # Its backends notice by themselves: each may take some more statements, and dies with one.
        async with asyncio.timeout(60):
            while (after := await write()) in (None, before):  # noqa: ASYNC110 -- it is to be tried
                await asyncio.sleep(0.01)
        found = "SELECT count(*) FROM survived WHERE node = $1"
        assert await client.fetchval(found, after, timeout=30) == 1
    finally:
        client.terminate()
