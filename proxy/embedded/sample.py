"""Roles, a sample schema and pgbench's tables, so that there is something to talk to.

Everything can be called again on kept data: what is there already stays as it is.
"""

from dataclasses import dataclass, field
from importlib import resources

from proxy.embedded.node import Node
from proxy.embedded.settings import quote_literal


@dataclass(frozen=True)
class Login:
    """A role that may log in; `password` in clear text, and not shown when this is printed."""

    name: str
    password: str = field(repr=False)


async def create_roles(node: Node, *, app: Login, monitor: Login, database: str = "demo") -> None:
    """Make `app` with a database of its own, and `monitor`, who may read all statistics.

    Roles that exist get the password given here.
    """
    await _create_role(node, app, "LOGIN")
    await _create_role(node, monitor, "LOGIN")
    await node.execute(f"GRANT pg_monitor TO {_quote_name(monitor.name)}")
    if not await node.value("SELECT 1 FROM pg_database WHERE datname = $1", database):
        await node.execute(f"CREATE DATABASE {_quote_name(database)} OWNER {_quote_name(app.name)}")


async def grant_promotion(node: Node, monitor: Login) -> None:
    """Let `monitor` change who is primary: what pgweir needs for `failover.mode: promote`.

    Rights on functions belong to the database that the monitor connects to.
    """
    name = _quote_name(monitor.name)
    await node.execute(
        f"GRANT EXECUTE ON FUNCTION pg_promote, pg_reload_conf TO {name};"
        "GRANT ALTER SYSTEM ON PARAMETER primary_conninfo, default_transaction_read_only"
        f" TO {name};"
        f"GRANT pg_signal_backend TO {name}"
    )


async def load_sample(node: Node, *, app: Login, database: str = "demo") -> bool:
    """Load users, posts, follows, interactions and counters; False when they are there already."""
    return await _load(node, app, database, "sample.sql", "users")


async def load_pgbench(node: Node, *, app: Login, database: str = "demo") -> bool:
    """Load pgbench's tables at scale 1; False when they are there already."""
    return await _load(node, app, database, "pgbench.sql", "pgbench_accounts")


async def _create_role(node: Node, login: Login, options: str) -> None:
    exists = await node.value("SELECT 1 FROM pg_roles WHERE rolname = $1", login.name)
    verb = "ALTER" if exists else "CREATE"
    password = quote_literal(login.password)
    await node.execute(f"{verb} ROLE {_quote_name(login.name)} {options} PASSWORD {password}")


async def _load(node: Node, app: Login, database: str, script: str, table: str) -> bool:
    """Run a packaged script as `app`, whole or not at all, unless its first table exists."""
    async with node.connection(database, user=app.name, password=app.password) as connection:
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"public.{table}"):
            return False
        # One simple-protocol string is one transaction.
        await connection.execute(resources.files("proxy.embedded").joinpath(script).read_text())
        return True


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
