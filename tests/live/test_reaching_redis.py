"""Redis as operators have it: behind TLS, on a socket, with users, and in a database of its own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.embedded import free_port
from tests.fixtures.console import ADMIN, AUTH
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import Certificates, Postgres
from tests.fixtures.redis import RedisServer

USER, PASSWORD = "weir", "s3cr3t-of-redis"
LOST = "Redis does not answer"


@dataclasses.dataclass(frozen=True)
class Doors:
    """One Redis that can be reached in every way there is."""

    redis: RedisServer
    tls_port: int
    socket: Path

    def url(self, form: str) -> str:
        """A URL with what it stands for filled in."""
        return form.format(port=self.redis.port, tls=self.tls_port, socket=self.socket)

    def keys_of(self, database: int) -> bool:
        """Whether anything is kept in that database."""
        return f"db{database}:keys=".encode() in self.redis.run("INFO", "keyspace")


@pytest.fixture
def doors(redis_server: RedisServer, certificates: Certificates, tmp_path: Path) -> Doors:
    """A Redis whose default user needs no password, and where `weir` may touch our keys only."""
    tls, socket = free_port(), redis_server.folder / "redis.sock"
    redis_server.kill()
    redis_server.options = (
        *("--bind", "127.0.0.1", "127.0.0.2"),
        *("--unixsocket", str(socket)),
        *("--tls-port", str(tls), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificates.server_cert)),
        *("--tls-key-file", str(certificates.server_key)),
        *("--tls-ca-cert-file", str(certificates.ca)),
    )
    redis_server.start()
    redis_server.run("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~{pgweir}:*", "+@all")
    return Doors(redis_server, tls, socket)


def announce(weir: Pgweir, pg18: Postgres) -> None:
    """Something is written under a key."""
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("/* pgweir: key=user:1 */ create temporary table announced ()")
    weir.wait_until(lambda: weir.metric("pgweir_redis_operations_total", operation="announced") > 0)


@pytest.mark.parametrize(
    ("form", "database", "changes"),
    [
        ("rediss://127.0.0.1:{tls}/0", 0, {"ca": "the CA"}),
        ("rediss://localhost:{tls}/3", 3, {"ca": "the CA"}),
        (f"rediss://{USER}:{PASSWORD}@127.0.0.1:{{tls}}/3", 3, {"ca": "the CA"}),
        ("unix://{socket}", 0, {}),
        ("unix://{socket}?db=2", 2, {}),
        (f"unix://{USER}:{PASSWORD}@{{socket}}?db=2", 2, {}),
        (f"redis://{USER}:{PASSWORD}@127.0.0.1:{{port}}/5", 5, {}),
        (f"redis://{USER}@127.0.0.1:{{port}}/5", 5, {"password": PASSWORD}),
        (f"redis://{USER}@127.0.0.1:{{port}}", 0, {"password_file": "a file"}),
    ],
)
def test_it_is_reached(
    start_pgweir: Callable[..., Pgweir],
    pg18: Postgres,
    doors: Doors,
    certificates: Certificates,
    tmp_path: Path,
    form: str,
    database: int,
    changes: dict[str, str],
) -> None:
    settings: dict[str, Any] = {"url": doors.url(form), **changes}
    if "ca" in settings:
        settings["ca"] = str(certificates.ca)
    if "password_file" in settings:
        (tmp_path / "password").write_text(PASSWORD + "\n")
        settings["password_file"] = str(tmp_path / "password")
    weir = start_pgweir(pg18, redis=settings)
    weir.wait_until(lambda: weir.metric("pgweir_redis_connected") == 1)
    announce(weir, pg18)
    assert [number for number in range(16) if doors.keys_of(number)] == [database]
    assert PASSWORD not in "\n".join(weir.log)


@pytest.mark.parametrize(
    ("form", "reason", "with_ca"),
    [
        # Nobody here knows who signed it.
        ("rediss://127.0.0.1:{tls}/0", "certificate verify failed", False),
        # It is signed, but not for this address.
        ("rediss://127.0.0.2:{tls}/0", "certificate verify failed|doesn't match|not valid", True),
        # What listens there speaks no TLS.
        ("rediss://127.0.0.1:{port}/0", "Timeout", True),
        (
            f"redis://{USER}:wr0ng-{PASSWORD}@127.0.0.1:{{port}}/0",
            "invalid username-password",
            False,
        ),
        (f"redis://nobody:{PASSWORD}@127.0.0.1:{{port}}/0", "invalid username-password", False),
        (f"redis://{USER}:{PASSWORD}@127.0.0.1:{{port}}/99", "DB index is out of range", False),
        ("unix://{socket}.gone", "No such file", False),
    ],
)
def test_what_keeps_it_away_is_said(
    start_pgweir: Callable[..., Pgweir],
    pg18: Postgres,
    doors: Doors,
    certificates: Certificates,
    form: str,
    reason: str,
    with_ca: bool,
) -> None:
    settings = {"url": doors.url(form)}
    if with_ca:
        settings["ca"] = str(certificates.ca)
    weir = start_pgweir(pg18, redis=settings, auth=AUTH)
    weir.wait_for_log(f"{LOST}.*reason=.*({reason})")
    assert weir.metric("pgweir_redis_connected") == 0
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        assert client.execute("select 1").fetchone() == (1,)
    dsn = weir.dsn(ADMIN.name, ADMIN.password, "pgweir")
    with psycopg.connect(dsn, autocommit=True) as console:
        events = [str(event) for event in console.execute("SHOW EVENTS").fetchall()]
    assert any(LOST in event for event in events)
    assert PASSWORD not in "\n".join(weir.log + events)
