"""How every command tells what is wrong with a configuration: on standard error, exit code 2."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from proxy.config import ConfigError

BAD_CONFIGURATION = 2


@contextmanager
def telling_what_is_wrong() -> Iterator[None]:
    """Within it, a ConfigError ends the program with one line for each problem."""
    try:
        yield
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_CONFIGURATION)


def tell_warnings(warnings: Iterable[str]) -> None:
    """Write what was accepted but has no effect to standard error, one line each."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
