"""`pgweir check`: is this file a configuration? What would this statement do?"""

import os
from pathlib import Path

import click

from proxy.auth import read_admission
from proxy.cli.refusal import tell_warnings, telling_what_is_wrong
from proxy.config import Config, Node, load


@click.command()
@click.option("-c", "--config", "file", metavar="FILE", help="YAML file.")
@click.option("--sql", metavar="TEXT", help="A statement, or several.")
def check(file: str | None, sql: str | None) -> None:
    """Say what is wrong with a configuration file, or what a statement would do.

    Each problem is one line, FILE:LINE: key.path: what is wrong and what would be right, and the
    exit code is then 2. References to the environment are expanded as `run` would.

    With --sql: whether the statement only reads, and if not, why. The file may then be left out.
    """
    if file is None and sql is None:
        raise click.UsageError("Missing option '-c' / '--config', or '--sql'.")
    if file is not None:
        _check_file(file)
    if sql is not None:
        # The grammar takes a third of a second to load, which no file needs.
        from proxy.cli.statement import describe  # noqa: PLC0415

        for line in describe(sql):
            click.echo(line)


def _check_file(file: str) -> None:
    with telling_what_is_wrong():
        config = load(Path(file), os.environ)
        admission = read_admission(config)
    tell_warnings([*config.warnings, *admission.warnings])
    click.echo(f"{file}: ok")
    for line in summarise(config):
        click.echo(f"  {line}")


def summarise(config: Config) -> list[str]:
    """What the configuration comes to, in a few lines, without any secret."""
    listen, auth = config.listen, config.auth
    doors = [f"{listen.host}:{listen.port}"]
    if listen.unix_socket_dir is not None:
        doors.append(str(listen.unix_socket_dir))
    http = "none" if config.http is None else f"{config.http.host}:{config.http.port}"
    return [
        f"listen: {', '.join(doors)} (tls {listen.tls.mode}), http {http}",
        f"auth: {auth.method}, {_count(len(auth.users), 'user')}",
        *(
            f"cluster {name}: {', '.join(_name(node) for node in cluster.nodes)}"
            for name, cluster in config.clusters.items()
        ),
        *(
            f"database {name}: {database.dbname or 'same name'} on {database.cluster}, "
            f"{database.pool_mode or config.limits.pool_mode} pooling, "
            f"pool size {database.pool_size or config.limits.pool_size}"
            for name, database in config.databases.items()
        ),
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _name(node: Node) -> str:
    address = f"{node.host}:{node.port}"
    return address if node.name == address else f"{node.name} ({address})"
