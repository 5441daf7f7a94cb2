"""deploy/compose.yaml, without an engine: what it says, and its scripts run by hand."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from proxy.config import load
from proxy.embedded import bundled, free_port
from proxy.embedded.account import Account, credentials, give, unprivileged_account
from tests.fixtures.pgweir import Pgweir, running

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
REPLICAS = ("replica1", "replica2")
# Anything may stand in a password; `:` and quotes are what scripts stumble over.
PASSWORDS = {
    "APP_PASSWORD": 'app\'s "pass" $word: \\',
    "MONITOR_PASSWORD": "monitor",
    "REPLICATION_PASSWORD": "replication's",
}


def by_default(text: str) -> str:
    """A value of the file with no variable set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_there_are_a_primary_two_replicas_and_the_proxy() -> None:
    assert list(SERVICES) == ["primary", *REPLICAS, "pgweir"]


@pytest.mark.parametrize("name", ["primary", *REPLICAS])
def test_databases_tell_whether_they_are_healthy(name: str) -> None:
    assert "pg_isready" in SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", [*REPLICAS, "pgweir"])
def test_what_needs_the_primary_waits_for_it(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"primary": {"condition": "service_healthy"}}


def mounts() -> list[str]:
    return [
        mount.partition(":")[0]
        for service in SERVICES.values()
        for mount in service["volumes"]
        if mount.startswith(".")
    ]


@pytest.mark.parametrize("source", mounts())
def test_what_is_mounted_exists(source: str) -> None:
    assert (DEPLOY / source).is_file()


def test_named_volumes_are_declared() -> None:
    used = {
        mount.partition(":")[0]
        for service in SERVICES.values()
        for mount in service["volumes"]
        if not mount.startswith(".")
    }
    assert used == set(COMPOSE["volumes"])


def test_nothing_is_reachable_from_elsewhere_unless_asked_for() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    published = {name: [by_default(port) for port in each] for name, each in ports.items() if each}
    assert published == {"pgweir": ["127.0.0.1:6432:6432", "127.0.0.1:9127:9127"]}


def proxy_environment() -> dict[str, str]:
    return {name: by_default(value) for name, value in SERVICES["pgweir"]["environment"].items()}


def test_the_proxys_file_is_sound_with_the_environment_it_is_given() -> None:
    config = load(DEPLOY / "pgweir.yaml", proxy_environment())
    assert config.warnings == ()


def test_the_proxy_knows_every_database_by_its_service() -> None:
    config = load(DEPLOY / "pgweir.yaml", proxy_environment())
    assert [node.host for node in config.clusters["main"].nodes] == ["primary", *REPLICAS]


def test_the_proxy_is_given_the_time_that_its_transactions_have() -> None:
    config = load(DEPLOY / "pgweir.yaml", proxy_environment())
    grace_s = int(SERVICES["pgweir"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > config.limits.shutdown_timeout


@dataclass
class Machine:
    """Runs what the containers would run, in one folder, as one unprivileged account."""

    folder: Path
    bin_dir: Path
    account: Account | None

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.folder}:{self.bin_dir}:{os.environ['PATH']}"
        return {"PATH": path, "LC_ALL": "C", "TZ": "UTC", **PASSWORDS, **more}

    def run(self, *argv: str | Path, **env: str) -> None:
        done = subprocess.run(
            [str(each) for each in argv],
            cwd=self.folder,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
            **credentials(self.account),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stdout

    def start(self, log: Path, *argv: str | Path, **env: str) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [str(each) for each in argv],
                cwd=self.folder,
                env=self.environment(**env),
                stdout=output,
                stderr=output,
                start_new_session=True,
                **credentials(self.account),  # type: ignore[call-overload]
            )
        return process


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End PostgreSQL, or the script that was to become it, with whatever it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def stop_all(processes: "dict[str, subprocess.Popen[bytes]]") -> None:
    # A replica that outlives its primary is no trouble; a primary waits for its replicas.
    for process in reversed(processes.values()):
        stop(process)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A folder with the scripts, and a stand-in for the image's own entry point."""
    account = unprivileged_account()
    folder = Path(tempfile.mkdtemp(prefix="pgweir-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for script in DEPLOY.glob("*.sh"):
            shutil.copy(script, folder)
        entry = folder / "docker-entrypoint.sh"
        entry.write_text('#!/bin/sh\nexec "$@" -p "$PORT" -k "$SOCKETS" -h 127.0.0.1\n')
        entry.chmod(0o755)
        give(account, [folder])
        binaries = bundled(18).readable_by(account, folder)
        yield Machine(folder, binaries.bin_dir, account)
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Composed:
    """The three databases, up. ports: by service."""

    machine: Machine
    ports: dict[str, int]
    processes: dict[str, "subprocess.Popen[bytes]"]

    def value(self, service: str, sql: str) -> Any:
        """Ask as superuser, through the Unix socket."""

        async def ask() -> Any:
            connection = await asyncpg.connect(
                host=str(self.machine.folder), port=self.ports[service], user="postgres"
            )
            try:
                return await connection.fetchval(sql)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def wait_for(self, service: str, sql: str) -> None:
        """Wait until the database answers, and answers `true`."""
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.value(service, sql):
                    return
            except (OSError, asyncpg.PostgresError):
                pass
            log = self.machine.folder / f"{service}.log"
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)

    def start_replica(self, service: str) -> None:
        folder = self.machine.folder
        self.processes[service] = self.machine.start(
            folder / f"{service}.log",
            "bash",
            folder / "replica.sh",
            PGDATA=str(folder / service / "18" / "docker"),
            PRIMARY_HOST="127.0.0.1",
            PRIMARY_PORT=str(self.ports["primary"]),
            PORT=str(self.ports[service]),
            SOCKETS=str(folder),
        )
        self.wait_for(service, "SELECT pg_is_in_recovery()")


@pytest.fixture(scope="module")
def composed(machine: Machine) -> Iterator[Composed]:
    """What `up` does, in its order: the primary initialised by its script, then the replicas."""
    folder = machine.folder
    data = folder / "primary"
    ports = {name: free_port() for name in ("primary", *REPLICAS)}
    server = (machine.bin_dir / "postgres", "-D", data, "-p", str(ports["primary"]), "-k", folder)
    local = ("-c", "fsync=off", "-c", "listen_addresses=")
    machine.run(
        machine.bin_dir / "initdb",
        *("--pgdata", data, "--username", "postgres", "--auth-local", "trust", "--no-sync"),
    )
    with ExitStack() as stack:
        composed = Composed(machine, ports, {})
        # The image's own line, which lets everybody in with a password.
        with (data / "pg_hba.conf").open("a") as hba:
            hba.write("host all all all scram-sha-256\n")
        first = machine.start(folder / "primary.log", *server, *local)
        stack.callback(stop, first)
        composed.wait_for("primary", "SELECT true")
        machine.run(
            folder / "primary.sh",
            PGDATA=str(data),
            PGHOST=str(folder),
            PGPORT=str(ports["primary"]),
        )
        stop(first)
        command = SERVICES["primary"]["command"][1:]
        composed.processes["primary"] = machine.start(
            folder / "primary.log", *server, *local[:2], "-h", "127.0.0.1", *command
        )
        stack.callback(stop_all, composed.processes)
        composed.wait_for("primary", "SELECT true")
        for name in REPLICAS:
            composed.start_replica(name)
        yield composed


@pytest.fixture(scope="module")
def proxy(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """The proxy with the file it has in its container, but for hosts and ports."""
    text = (DEPLOY / "pgweir.yaml").read_text("utf-8")
    config = yaml.safe_load(text)
    for node in config["clusters"]["main"]["nodes"]:
        node |= {"port": composed.ports[node["host"]], "host": "127.0.0.1"}
    config["clusters"]["main"]["monitor"]["password"] = PASSWORDS["MONITOR_PASSWORD"]
    # `$$` is one dollar sign in a configuration.
    config["auth"]["users"]["app"]["password"] = PASSWORDS["APP_PASSWORD"].replace("$", "$$")
    config["listen"] |= {"host": "127.0.0.1", "port": 0}
    config |= {"http": {"host": "127.0.0.1", "port": 0}, "log": {"level": "info"}}
    with running(config, tmp_path_factory.mktemp("proxy")) as weir:
        weir.wait_until(lambda: weir.http("/readyz")[0] == 200)
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        yield weir


async def ask(weir: Pgweir, database: str, sql: str) -> Any:
    connection = await asyncpg.connect(
        host=weir.host,
        port=weir.port,
        user="app",
        password=PASSWORDS["APP_PASSWORD"],
        database=database,
    )
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.mark.live
@pytest.mark.replication
def test_both_replicas_stream(composed: Composed) -> None:
    streaming = "SELECT count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'"
    composed.wait_for("primary", streaming)


@pytest.mark.live
@pytest.mark.replication
async def test_the_application_writes_through_the_proxy(proxy: Pgweir) -> None:
    assert await ask(proxy, "app", "SELECT pg_is_in_recovery()") is False


@pytest.mark.live
@pytest.mark.replication
async def test_the_read_only_name_leads_to_a_replica(proxy: Pgweir) -> None:
    assert await ask(proxy, "app_ro", "SELECT pg_is_in_recovery()") is True


@pytest.mark.live
@pytest.mark.replication
def test_the_application_may_do_nothing_beyond_its_database(composed: Composed) -> None:
    asked = "SELECT rolsuper OR rolreplication OR rolcreatedb FROM pg_roles WHERE rolname = 'app'"
    assert composed.value("primary", asked) is False


@pytest.mark.live
@pytest.mark.replication
def test_a_replica_started_again_goes_on_with_its_data(composed: Composed) -> None:
    stop(composed.processes["replica1"])
    kept = composed.machine.folder / "replica1" / "18" / "docker" / "kept"
    kept.touch()
    composed.start_replica("replica1")
    assert kept.exists()
