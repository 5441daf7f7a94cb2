"""Proxies before a wire: `wired(pg)` passes through, `scripted(script)` plays the server."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faults.wire import Script, Wire, wire_to
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import MONITOR, Postgres

OPEN_DOOR: dict[str, Any] = {
    "auth": {"method": "trust"},
    "clusters": {"main": {"server": {"tls": {"mode": "disable"}}}},
}


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
            wire = stack.enter_context(
                wire_to((pg18.host, pg18.port), MONITOR.name, script, on_request)
            )
            # A wire looks enough like a node for a configuration.
            config = configuration(cast("Postgres", wire), **merged(OPEN_DOOR, changes))
            return wire, stack.enter_context(running(config, tmp_path))

        yield start


@pytest.fixture(scope="session")
def open_weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """A proxy in transaction mode before PostgreSQL 18 that asks for no password."""
    changes = merged(OPEN_DOOR, {"limits": {"client_login_timeout": "2s"}})
    with running(configuration(pg18, **changes), tmp_path_factory.mktemp("open")) as weir:
        yield weir
