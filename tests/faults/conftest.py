"""Proxies before a wire.

`wired` and `start_wired()` pass through to PostgreSQL; `stage` and `start_wired(script)` let
scripts play the server.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faults.stage import PATIENT, Stage, watched
from tests.faults.wire import Script, Wire, wire_to
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import DATABASE, MONITOR, Postgres

OPEN_DOOR: dict[str, Any] = {
    # Tests are one address that fails again and again.
    "auth": {"method": "trust", "failure_delay": 0},
    "clusters": {"main": {"server": {"tls": {"mode": "disable"}}}},
}

# Every name is a database with a server of its own; who is not let in hears of it soon.
STAGE: dict[str, Any] = {
    "limits": {"query_wait_timeout": "2s", "server_login_retry": "200ms"},
    "databases": {
        "*": {"cluster": "main", "pool_size": 1},
        PATIENT: {
            "cluster": "main",
            "query_wait_timeout": "60s",
            "server_login_retry": "1ms",
        },
    },
}


@contextlib.contextmanager
def proxy_before(
    wire: contextlib.AbstractContextManager[Wire], folder: Path, **changes: Any
) -> Iterator[tuple[Wire, Pgweir]]:
    """A proxy that asks for no password, with this wire as its one node."""
    with wire as node:
        # A wire looks enough like a node for a configuration.
        config = configuration(cast("Postgres", node), **merged(OPEN_DOOR, changes))
        with running(config, folder) as weir:
            yield node, weir


@pytest.fixture
def start_wired(pg18: Postgres, tmp_path: Path) -> Iterator[Callable[..., tuple[Wire, Pgweir]]]:
    """Start a proxy with a wire between it and PostgreSQL 18; clients need no password.

    `start_wired(script=None, on_request=None, **changes)` gives both.
    """
    with contextlib.ExitStack() as stack:

        def start(
            script: Script | None = None,
            on_request: Callable[[bytes], bool] | None = None,
            **changes: Any,
        ) -> tuple[Wire, Pgweir]:
            wire = wire_to((pg18.host, pg18.port), MONITOR.name, script, on_request)
            return stack.enter_context(proxy_before(wire, tmp_path, **changes))

        yield start


@pytest.fixture(scope="session")
def wired_proxy(
    pg18: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Wire, Pgweir]]:
    wire = wire_to((pg18.host, pg18.port), MONITOR.name)
    databases = {DATABASE: {"pool_size": 1}}
    with proxy_before(wire, tmp_path_factory.mktemp("wired"), databases=databases) as both:
        yield both


@pytest.fixture
def wired(wired_proxy: tuple[Wire, Pgweir]) -> Iterator[tuple[Wire, Pgweir]]:
    """A wire to PostgreSQL 18 and a proxy before it, as new: no client, no server."""
    wire, weir = wired_proxy
    yield wire, weir

    def is_empty() -> bool:
        # Again and again: a connection may have been on its way.
        wire.restore()
        gauges = ("pgweir_client_connections", "pgweir_server_connections")
        return not any(weir.metric(each) for each in gauges)

    weir.wait_until(is_empty)


@pytest.fixture(scope="session")
def scripted_proxy(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    wire = wire_to((pg18.host, pg18.port), MONITOR.name)
    with proxy_before(wire, tmp_path_factory.mktemp("stage"), **STAGE) as both:
        yield Stage(*both)


@pytest.fixture
def stage(scripted_proxy: Stage) -> Iterator[Stage]:
    """One proxy, all of whose servers are played by scripts."""
    with watched(scripted_proxy) as stage:
        yield stage


@pytest.fixture(scope="session")
def open_weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """A proxy in transaction mode before PostgreSQL 18 that asks for no password."""
    changes = merged(OPEN_DOOR, {"limits": {"client_login_timeout": "2s"}})
    with running(configuration(pg18, **changes), tmp_path_factory.mktemp("open")) as weir:
        yield weir
