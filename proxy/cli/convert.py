"""`pgweir convert`: PgBouncer's file as YAML."""

import os
from pathlib import Path

import click

from proxy.cli.refusal import tell_warnings, telling_what_is_wrong
from proxy.config import convert as convert_file


@click.command()
@click.argument("file", metavar="PGBOUNCER.INI")
def convert(file: str) -> None:
    """Print the YAML that is equivalent to a pgbouncer.ini.

    What could not be carried over stands in comments at its beginning, and on standard error.
    Passwords that stand in the file stand in what is printed, too.
    """
    with telling_what_is_wrong():
        text, warnings = convert_file(Path(file), os.environ)
    tell_warnings(warnings)
    click.echo(text, nl=False)
