"""A proxy with one or two server connections, and how to be on the one or the other."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import Wire, address_of, query


@contextlib.contextmanager
def few_connections(node: Postgres, folder: Path) -> Iterator[Pgweir]:
    """Databases `one`, `two`, and `shared`: two that prepare unnamed statements once for all."""
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "shared": {**each, "pool_size": 2, "share_unnamed": True},
    }
    with running(configuration(node, databases=databases), folder) as weir:
        yield weir


@contextlib.contextmanager
def elsewhere(weir: Pgweir, database: str) -> Iterator[None]:
    """What is said meanwhile goes to the other server connection, if there are two."""
    if database == "one":
        yield
        return
    with Wire.connect(address_of(weir, database)) as holder:
        holder.ask(query("BEGIN"))
        holder.ask(query("SELECT 1"))
        yield
        holder.ask(query("ROLLBACK"))
