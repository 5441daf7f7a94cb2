"""`pgweir run`: serve, by a file or by environment variables."""

import os
import sys
from pathlib import Path

import click

from proxy.cli.refusal import tell_warnings, telling_what_is_wrong
from proxy.config import from_environment, load


@click.command()
@click.option("-c", "--config", "file", metavar="FILE", help="YAML file; else DATABASE_URL.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect.")
@click.option("--http", metavar="HOST:PORT", help="Where /metrics and the health checks are.")
@click.option("--pool-size", type=click.IntRange(min=1), help="Server connections per pool.")
def run(file: str | None, listen: str | None, http: str | None, pool_size: int | None) -> None:
    """Serve.

    With a file, as it says. Without one, DATABASE_URL names the primary and DATABASE_REPLICA_URLS
    the replicas, separated by commas. Flags win over the file.
    """
    source = None if file is None else Path(file)
    with telling_what_is_wrong():
        if source is None:
            config = from_environment(os.environ, listen=listen, http=http, pool_size=pool_size)
        else:
            config = load(source, os.environ, listen=listen, http=http, pool_size=pool_size)
    tell_warnings(config.warnings)
    # Only now, so that a mistake in the file is told before the compiled rooms are loaded.
    import uvloop  # noqa: PLC0415

    from proxy.workers import serve  # noqa: PLC0415

    try:
        with telling_what_is_wrong():
            code = uvloop.run(serve(config, source=source))
    except OSError as error:
        # An address that is taken, a folder that may not be written: the operator's to put right.
        click.echo(f"pgweir run: {error}", err=True)
        code = 1
    sys.exit(code)
