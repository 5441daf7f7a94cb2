"""Started with PgBouncer's file and flags: background, pidfile, log, signals, systemd."""

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from proxy.config import convert
from tests.fixtures.pgbouncer import (
    Door,
    free_port,
    needs_pgbouncer,
    open_folder,
    running_pgbouncer,
)
from tests.fixtures.pgweir import Pgweir, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}


class Site:
    """A folder with an ini, and where it has its files."""

    def __init__(self, folder: Path, node: Postgres) -> None:
        self.node = node
        self.folder = folder
        self.ini = folder / "p.ini"
        self.pidfile = folder / "run" / "p.pid"
        self.log = folder / "run" / "p.log"
        self.door = Door(free_port())
        (folder / "run").mkdir(mode=0o777)
        (folder / "run").chmod(0o777)
        (folder / "userlist.txt").write_text(f'"{APP.name}" "{APP.password}"\n')
        self.write()

    def write(self, settings: str = "", database: str = "") -> None:
        self.ini.write_text(
            f"[databases]\n{DATABASE} = host={self.node.host} port={self.node.port} {database}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.door.port}\n"
            f"unix_socket_dir =\nauth_file = {self.folder}/userlist.txt\n"
            f"admin_users = {APP.name}\n"
            f"pidfile = {self.pidfile}\nlogfile = {self.log}\n{settings}\n"
        )

    def with_workers(self, count: int) -> Path:
        """The same as YAML, which has a key for several processes, and with a Unix socket."""
        self.write(f"unix_socket_dir = {self.folder}/run")
        text, _ = convert(self.ini, {})
        file = self.folder / "p.yaml"
        file.write_text(f"{text}workers: {count}\n")
        return file

    def run(self, *arguments: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Start it in the background, or fail to."""
        return subprocess.run(
            [sys.executable, "-m", "proxy", "run", *arguments, str(file or self.ini)],
            check=False,
            env=ENVIRON,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def ask(self, sql: str = "SELECT 1", folder: Path | None = None) -> object:
        """Come in, by TCP or the Unix socket in a folder, and ask."""
        dsn = self.door.dsn(APP.name, APP.password, DATABASE)
        if folder is not None:
            dsn += f"?host={folder}"
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as client:
            return client.execute(sql).fetchone()


def wait_until(what: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may be there to bury who has lost their parent.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def stop(site: Site, which: signal.Signals = signal.SIGINT) -> None:
    pid = site.pid
    os.kill(pid, which)
    wait_until(lambda: not is_there(pid))


@pytest.fixture
def site(pg18: Postgres) -> Iterator[Site]:
    """A site of one's own; who started something there stops it."""
    with open_folder() as folder:
        site = Site(folder, pg18)
        yield site
        if site.pidfile.exists() and is_there(site.pid):
            stop(site)


@pytest.fixture(scope="module")
def served(pg18: Postgres) -> Iterator[Site]:
    """A site that serves in the background."""
    with open_folder() as folder:
        site = Site(folder, pg18)
        done = site.run("-d")
        assert (done.returncode, done.stderr) == (0, "")
        yield site
        stop(site, signal.SIGTERM)
        assert not site.pidfile.exists()
        assert "LOG stopped" in site.log.read_text()


def test_in_the_background_it_serves_when_the_command_returns(served: Site) -> None:
    assert served.ask() == (1,)
    assert f"[{served.pid}] LOG ready" in served.log.read_text()


def test_a_second_one_is_not_started(served: Site) -> None:
    first = served.pid
    done = served.run("-d")
    assert done.returncode == 1
    assert f"process {first} is running already" in done.stderr
    assert (served.pid, served.ask()) == (first, (1,))


def test_the_log_says_why_a_client_went(served: Site) -> None:
    served.ask()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(served.door.dsn(APP.name, "wrong", DATABASE))
    who = rf"C-0x[0-9a-f]+: {DATABASE}/{APP.name}@127\.0\.0\.1:\d+"

    def is_said() -> bool:
        log = served.log.read_text()
        return all(
            re.search(line, log)
            for line in (
                rf"LOG {who} login attempt: db={DATABASE} user={APP.name} tls=no",
                rf"LOG {who} closing because: client close request \(age=\d+s\)",
                r"@127\.0\.0\.1:\d+ closing because: .*password authentication failed",
            )
        )

    wait_until(is_said)


def test_a_reload_that_is_wrong_changes_nothing_and_says_where(served: Site) -> None:
    served.write("pool_mode = transactional\nquery_timeout = 1")
    os.kill(served.pid, signal.SIGHUP)
    wait_until(lambda: "not reloaded" in served.log.read_text())
    assert f"{served.ini}:11: pool_mode: expected one of" in served.log.read_text()
    assert served.ask("SELECT 1 FROM pg_sleep(1.2)") == (1,)


def test_a_reload_says_what_it_changes_and_when_that_holds(served: Site) -> None:
    served.write("max_client_conn = 77\nlisten_backlog = 5", "pool_size=3")
    heard: list[str] = []
    dsn = served.door.dsn(APP.name, APP.password, "pgbouncer")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.add_notice_handler(lambda said: heard.append(said.message_detail or ""))
        admin.execute("RELOAD")
    assert "listen.max_client_conn: 100 -> 77, now" in heard[0].splitlines()
    wait_until(lambda: "LOG reloaded" in served.log.read_text())
    log = served.log.read_text()
    assert "listen.max_client_conn: 100 -> 77, now" in log
    assert f"databases.{DATABASE}.pool_size: none -> 3, now" in log
    assert "listen.backlog: 128 -> 5, at a restart" in log
    assert "needs_restart=listen.backlog" in log


def test_a_log_that_was_rotated_is_opened_anew_without_lines_that_are_not_wanted(
    served: Site,
) -> None:
    served.write("log_connections = 0\nlog_disconnections = 0")
    served.log.rename(served.folder / "old.log")
    os.kill(served.pid, signal.SIGHUP)
    wait_until(lambda: served.log.exists() and "LOG reloaded" in served.log.read_text())
    served.ask()
    served.write()
    os.kill(served.pid, signal.SIGHUP)
    wait_until(lambda: served.log.read_text().count("LOG reloaded") == 2)
    assert "closing because" not in served.log.read_text()
    assert "login attempt" not in served.log.read_text()


def test_signals_pause_and_resume(served: Site) -> None:
    served.ask()
    os.kill(served.pid, signal.SIGUSR1)
    wait_until(lambda: "command=PAUSE" in served.log.read_text())
    with psycopg.connect(served.door.dsn(APP.name, APP.password, DATABASE)) as client:
        asked = threading.Thread(target=client.execute, args=["SELECT 1"])
        asked.start()
        asked.join(0.5)
        assert asked.is_alive()
        os.kill(served.pid, signal.SIGUSR2)
        asked.join(20)
        assert not asked.is_alive()


def test_what_is_wrong_is_said_before_it_is_in_the_background(site: Site) -> None:
    site.write("max_client_con = 5")
    done = site.run("-d")
    assert done.returncode == 2
    assert f"{site.ini}:11: max_client_con: unknown key" in done.stderr
    site.ini.write_text("[databases]\nshop = host=h\n")
    done = site.run("-d")
    assert done.returncode == 2
    assert "-d needs a pidfile" in done.stderr


def test_an_address_that_is_taken_is_said_and_leaves_no_pidfile(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.door.port)):
        done = site.run("-d")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert not site.pidfile.exists()


@pytest.mark.parametrize("shares", [True, False], ids=["so_reuseport", "one after the other"])
def test_taking_the_place_of_another_loses_no_transaction(site: Site, *, shares: bool) -> None:
    site.write("so_reuseport = 1" if shares else "")
    http = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    # One that was left behind is no obstacle.
    site.pidfile.write_text(f"{gone.pid}\n")
    assert site.run("-d", "--http", http).returncode == 0
    first = site.pid
    with psycopg.connect(site.door.dsn(APP.name, APP.password, DATABASE)) as client:
        client.execute("SELECT 1")
        done = site.run("-d", "-R", "--http", http)
        assert (done.returncode, done.stderr) == (0, "")
        assert site.pid != first
        assert site.ask() == (1,)
        assert is_there(first)
        assert client.execute("SELECT 2").fetchone() == (2,)
        client.commit()
    wait_until(lambda: not is_there(first))
    assert site.ask() == (1,)

    def is_told() -> bool:
        with contextlib.suppress(OSError), urlopen(f"http://{http}/healthz", timeout=10) as answer:
            return answer.status == 200
        return False

    wait_until(is_told)


@needs_pgbouncer
@pytest.mark.parametrize("workers", [1, 2])
def test_the_place_of_pgbouncer_is_taken(site: Site, workers: int) -> None:
    with running_pgbouncer(site.ini, site.door.port):
        wait_until(site.pidfile.exists)
        first = site.pid
        assert site.ask() == (1,)
        done = site.run("-d", "-R", file=site.with_workers(workers))
        assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: not is_there(first))
        assert site.ask() == (1,)
    # It has removed the file in which another process stands by now.
    wait_until(site.pidfile.exists)
    assert site.pid != first
    assert is_there(site.pid)


class Knocking:
    """Comes in and asks, again and again, from several threads. failures: what was said instead."""

    def __init__(self, site: Site) -> None:
        self.count = 0
        self.failures: list[str] = []
        self._site = site
        self._is_over = threading.Event()
        folders = (None, None, site.folder / "run")
        self._threads = [threading.Thread(target=self._knock, args=[each]) for each in folders]

    def __enter__(self) -> "Knocking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def _knock(self, folder: Path | None) -> None:
        while not self._is_over.is_set():
            try:
                self._site.ask(folder=folder)
            except psycopg.Error as error:
                self.failures.append(str(error))
            self.count += 1


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (3, 2), (2, 1)])
def test_nobody_is_turned_away_while_another_takes_the_place(
    site: Site, before: int, after: int
) -> None:
    http = f"127.0.0.1:{free_port()}"
    done = site.run("-d", "--http", http, file=site.with_workers(before))
    assert (done.returncode, done.stderr) == (0, "")
    first = site.pid
    with Knocking(site) as knocking:
        wait_until(lambda: knocking.count > 10)
        done = site.run("-d", "-R", "--http", http, file=site.with_workers(after))
        assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: not is_there(first))
        known = knocking.count
        wait_until(lambda: knocking.count > known + 10)
    assert knocking.failures == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_becomes_the_user_that_is_named(site: Site) -> None:
    done = site.run("-d", "-u", "nobody")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(f"/proc/{site.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert site.ask() == (1,)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGQUIT])
def test_at_once_is_at_once(site: Site, which: signal.Signals) -> None:
    assert site.run("-d").returncode == 0
    client = psycopg.connect(site.door.dsn(APP.name, APP.password, DATABASE))
    client.execute("SELECT 1")
    stop(site, which)
    assert not site.pidfile.exists()
    client.close()


class Systemd:
    """What is said to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (said := self._socket.recv(4096)) != b"over":
            self.heard.append(said.decode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"over", str(self.path))
        self._thread.join(10)
        self._socket.close()


def test_systemd_hears_when_it_is_ready_reloading_and_stopping(site: Site, tmp_path: Path) -> None:
    systemd = Systemd(tmp_path)
    try:
        with running(site.ini, tmp_path, environ={"NOTIFY_SOCKET": str(systemd.path)}) as weir:
            wait_until(lambda: any("READY=1" in each for each in systemd.heard))
            weir.send(signal.SIGHUP)
            weir.wait_for_log("reloaded")
        wait_until(lambda: any("STOPPING=1" in each for each in systemd.heard))
    finally:
        systemd.close()
    order = [each.split("\n")[0] for each in systemd.heard]
    assert order == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert re.search(r"MONOTONIC_USEC=\d+", systemd.heard[1])


def test_sockets_that_systemd_has_opened_are_taken_over(site: Site) -> None:
    # Clients may knock before it is there.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site.door = Door(listener.getsockname()[1])
        as_systemd = (
            f"import os, sys; os.dup2({listener.fileno()}, 3); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", as_systemd, "-m", "proxy", "run", str(site.ini)],
            pass_fds=[listener.fileno()],
            env=ENVIRON,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert site.ask() == (1,)
        finally:
            process.terminate()
            process.wait(20)


def test_a_file_that_is_watched_is_read_again_when_it_changes(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir], tmp_path: Path
) -> None:
    weir = start_pgweir(pg18, process={"watch": True})
    (file,) = tmp_path.glob("pgweir-*.yaml")
    wait_until(lambda: time.time() - file.stat().st_mtime > 0)
    file.write_text(file.read_text() + "limits: {query_timeout: 77s}\n")
    weir.wait_for_log("limits.query_timeout: 0 -> 77s, now", limit_s=20)


@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_it_names_are_watched_as_well(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir], tmp_path: Path, workers: int
) -> None:
    hba = tmp_path / "hba.conf"
    hba.write_text("host all all 127.0.0.1/32 trust\n")
    weir = start_pgweir(
        pg18,
        workers=workers,
        process={"watch": True},
        auth={"method": "hba", "hba_file": str(hba)},
    )
    psycopg.connect(weir.dsn()).close()
    hba.write_text("host all all 127.0.0.1/32 reject\n")
    weir.wait_for_log("the configuration file has changed", limit_s=20)

    def is_rejected() -> bool:
        try:
            psycopg.connect(weir.dsn()).close()
        except psycopg.OperationalError:
            return True
        return False

    wait_until(is_rejected)


def test_a_file_that_is_included_is_watched_as_well(site: Site, tmp_path: Path) -> None:
    included = site.ini.parent / "included.ini"
    included.write_text("query_timeout = 0\n")
    site.write(f"%include {included}")
    # PgBouncer's file has no key for it.
    with running(site.ini, tmp_path, arguments=["--watch"]) as weir:
        included.write_text("query_timeout = 33\n")
        weir.wait_for_log("limits.query_timeout: 0 -> 33s, now", limit_s=20)


def test_a_refused_file_is_mended_in_what_it_includes_or_names(site: Site, tmp_path: Path) -> None:
    included, hba = site.folder / "new.ini", site.folder / "hba.conf"
    with running(site.ini, tmp_path, arguments=["--watch"]) as weir:
        site.write(f"%include {included}")
        weir.wait_for_log(r"not reloaded: .*%include: .*cannot be read", limit_s=20)
        included.write_text(f"auth_type = hba\nauth_hba_file = {hba}\n")
        weir.wait_for_log("not reloaded: .*there is no file", limit_s=20)
        hba.write_text("host all all nonsense\n")
        weir.wait_for_log("not reloaded: .*hba.conf", limit_s=20)
        hba.write_text("host all all 127.0.0.1/32 md5\n")
        weir.wait_for_log("auth.method: .*hba", limit_s=20)


def test_many_reloads_under_load_disturb_nobody(site: Site, tmp_path: Path) -> None:
    with running(site.ini, tmp_path) as weir:
        bench = subprocess.Popen(
            [
                str(site.node.pgbench),
                *("-n", "-S", "-c", "16", "-j", "2", "-T", "5", "-M", "prepared"),
                site.door.dsn(APP.name, APP.password, DATABASE),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRON, "PGOPTIONS": ""},
        )
        reloads = 0
        while bench.poll() is None and reloads < 100:
            site.write("pool_mode = transaction", f"pool_size={2 + reloads % 5}")
            since = len(weir.log)
            weir.send(signal.SIGHUP)
            weir.wait_for_log("reloaded", since=since)
            reloads += 1
        out, err = bench.communicate(timeout=60)
    assert bench.returncode == 0, err
    assert "number of failed transactions: 0 " in out
    assert reloads > 10
