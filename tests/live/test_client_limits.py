"""How many may come in, how many may knock, and how fast they may guess."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.faults.raw_client import RawClient, query, send_cancel, startup
from tests.fixtures.pgweir import Pgweir, configuration
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, Postgres

StartPgweir = Callable[..., Pgweir]

USERS = {"users": {MD5_USER.name: {"password": MD5_USER.password}}}
TWO_DATABASES = {"twin": {"cluster": "main", "dbname": DATABASE}}


def test_a_full_database_and_a_full_user_are_refused_by_name(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    weir = start_pgweir(
        pg18,
        auth=USERS,
        databases={DATABASE: {"max_db_client_connections": 2}, **TWO_DATABASES},
        limits={"max_user_client_connections": 3},
    )
    with contextlib.ExitStack() as stack:

        def enter(database: str, user: str = APP.name, password: str = APP.password) -> None:
            stack.enter_context(psycopg.connect(weir.dsn(user, password, database)))

        enter(DATABASE)
        enter(DATABASE, MD5_USER.name, MD5_USER.password)
        with pytest.raises(psycopg.OperationalError, match="max_db_client_connections"):
            enter(DATABASE)
        enter("twin")
        enter("twin")
        with pytest.raises(psycopg.OperationalError, match="max_user_client_connections"):
            enter("twin")
        enter("twin", MD5_USER.name, MD5_USER.password)
        weir.wait_for_log(r"client refused.*max_db_client_connections.*sqlstate=53300")
        file = next(tmp_path.glob("pgweir-*.yaml"))
        file.write_text(file.read_text().replace("client_connections: 3", "client_connections: 4"))
        weir.send(signal.SIGHUP)
        weir.wait_for_log(" reloaded ")
        enter("twin")
    # All have left, so there is room again, as soon as the proxy has noticed.
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
    for _ in range(3):
        psycopg.connect(weir.dsn()).close()


def test_strangers_have_a_cap_of_their_own_and_do_not_keep_clients_out(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(
        pg18, listen={"max_client_conn": 3, "max_login_conn": 5}, limits={"client_login_timeout": 3}
    )
    half = startup(user=APP.name, database=DATABASE)
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(RawClient(weir.port)) for _ in range(4)]
        strangers[0].send(half[:-5])
        # This one waits for its password to be asked for, and never says it.
        strangers[1].send(half)
        assert strangers[1].read() is not None
        psycopg.connect(weir.dsn()).close()
        strangers.append(stack.enter_context(RawClient(weir.port)))
        with RawClient(weir.port) as one_too_many:
            (answer,) = one_too_many.read_to_end()
        assert answer.fields["C"] == "53300"
        assert "max_login_conn" in answer.fields["M"]
        assert weir.metric("pgweir_refusals_total", reason="too_many_logins") == 1
        # The deadline makes room, and everybody is told.
        for stranger in strangers:
            assert "client_login_timeout" in stranger.read_to_end()[-1].fields["M"]
        psycopg.connect(weir.dsn()).close()


def test_a_few_silent_connections_do_not_fill_a_proxy_for_few_clients(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, listen={"max_client_conn": 1})
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(RawClient(weir.port))
        psycopg.connect(weir.dsn()).close()


def test_libpq_understands_that_too_many_are_logging_in(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, listen={"max_login_conn": 1})
    with RawClient(weir.port), pytest.raises(psycopg.OperationalError, match="max_login_conn"):
        psycopg.connect(weir.dsn())


def test_a_cancel_request_is_served_where_no_more_logins_are(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, auth={"method": "trust"}, listen={"max_login_conn": 1})
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client, RawClient(weir.port):
        client.send(query("SELECT pg_sleep(60)"))
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        weir.wait_until(lambda: pg18.value(running) == 1)
        send_cancel(weir.port, client.pid, client.secret)
        assert client.read_until(b"Z")[-2].fields["C"] == "57014"


def test_who_guesses_is_answered_late_and_who_knows_is_not(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, auth={"method": "password", "failure_delay": "1h"})

    def guess() -> RawClient:
        client = RawClient(weir.port)
        client.send(startup(user=APP.name, database=DATABASE))
        assert client.read() is not None
        client.send(b"p\0\0\0\x0awrong\0")
        return client

    for _ in range(5):
        with guess() as client:
            assert client.read_to_end()[-1].fields["C"] == "28P01"
    with contextlib.ExitStack() as stack:
        # More are on their way: the last would hear of it in an hour. The end of the program
        # does not wait for them, or the fixture would say so.
        waiting = [stack.enter_context(guess()) for _ in range(25)]
        psycopg.connect(weir.dsn()).close()
        assert waiting[0].read_to_end()[-1].fields["C"] == "28P01"
        waiting[-1].socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting[-1].read()


def test_half_packets_cost_bounded_memory(start_pgweir: StartPgweir, pg18: Postgres) -> None:
    """The proxy's memory grows by what strangers send and not by what they announce."""
    weir = start_pgweir(pg18)

    def memory_kib() -> int:
        status = Path(f"/proc/{weir.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    psycopg.connect(weir.dsn()).close()
    before_kib = memory_kib()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stranger = stack.enter_context(RawClient(weir.port))
            stranger.send((10_000).to_bytes(4) + b"\0\3\0\0" + b"x" * 9_000)
        psycopg.connect(weir.dsn()).close()
        assert memory_kib() - before_kib < 300 * 40


def test_too_few_open_files_for_the_limits_are_told_at_the_start_and_at_a_reload(
    pg18: Postgres, tmp_path: Path
) -> None:
    config = tmp_path / "many.yaml"

    def allow(clients: int) -> None:
        limits = {"listen": {"max_client_conn": clients}, "log": {"level": "info"}}
        config.write_text(yaml.safe_dump(configuration(pg18, **limits)))

    allow(5000)
    # A shell that hands on small limits: the soft one is raised, the hard one cannot be.
    command = f"ulimit -Sn 300; ulimit -Hn 4000; exec {sys.executable} -m proxy run -c {config}"
    process = subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = []
        for last in (" ready ", " reloaded "):
            while last not in (line := process.stderr.readline()):
                assert line, said
                said.append(line)
            if last == " ready ":
                limits = Path(f"/proc/{process.pid}/limits").read_text()
                allow(6000)
                process.send_signal(signal.SIGHUP)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    needed = re.findall(r"limit of open files is 4000, .* needs (\d)", "".join(said))
    assert needed == ["5", "6"], said
    assert any(line.split()[3:5] == ["4000", "4000"] for line in limits.splitlines())
