"""Keepalive and user timeout, as the kernel has them on sockets of the running program."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.faults.raw_client import RawClient
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres

StartPgweir = Callable[..., Pgweir]


def timers_of(weir: Pgweir, peer: int) -> list[str]:
    """`ss -o` of the program's established connections with a port on this machine."""
    output = subprocess.run(
        ["ss", "-tnopH", "state", "established"], capture_output=True, text=True, check=True
    ).stdout
    return [
        line
        for line in output.splitlines()
        if f"pid={weir.process.pid}," in line and f":{peer} " in line
    ]


def keepalive_s(line: str) -> int:
    """Seconds until the next probe of a connection; 0 without keepalive."""
    timer = line.partition("timer:(keepalive,")[2].partition(",")[0]
    if timer.endswith("ms"):
        return 1
    if "sec" in timer:
        return round(float(timer.removesuffix("sec")))
    minutes, _, seconds = timer.partition("min")
    return int(minutes or 0) * 60 + int(seconds.removesuffix("sec") or 0)


def test_both_sides_are_asked_after_the_configured_silence(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    login = {"user": APP.name, "password": APP.password}
    weir = start_pgweir(
        pg18,
        auth={"method": "trust"},
        clusters={"main": {"server": login, "nodes": [{"host": "127.0.0.1", "port": pg18.port}]}},
        listen={"tcp_keepidle": "50s", "tcp_keepintvl": "7s", "tcp_keepcnt": 3},
    )
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        assert client.value("SELECT 1") == "1"
        own_port = client.socket.getsockname()[1]
        # Until what was sent last is acknowledged, `ss` shows the timer of its retransmission.
        for peer in (own_port, pg18.port):
            weir.wait_until(
                lambda peer=peer: any(0 < keepalive_s(line) <= 50 for line in timers_of(weir, peer))
            )
    file = next(tmp_path.glob("pgweir-*.yaml"))
    file.write_text(file.read_text().replace("tcp_keepidle: 50s", "tcp_keepalive: false"))
    weir.send(signal.SIGHUP)
    weir.wait_for_log("reloaded")
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        (ours,) = timers_of(weir, client.socket.getsockname()[1])
        assert "keepalive" not in ours
