"""`pgweir demo`: the flags, and the proxy that `proxy.cli.demo` puts in front of its cluster."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from proxy.cli.refusal import telling_what_is_wrong
from proxy.config import load


@click.command()
@click.option(
    "--replicas",
    type=click.IntRange(min=0, max=16),
    default=2,
    show_default=True,
    help="Streaming replicas.",
)
@click.option(
    "--port",
    type=click.IntRange(min=1, max=65535),
    help="The proxy's port; 6432 or a free one when absent.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the data in this folder.",
)
def demo(replicas: int, port: int | None, keep: Path | None) -> None:
    """Serve a temporary PostgreSQL with streaming replicas.

    Prints the DATABASE_URL to use and runs until Ctrl-C, which leaves nothing behind.
    """
    # Only now, so that --help needs neither PostgreSQL's binaries nor the compiled rooms.
    import uvloop  # noqa: PLC0415

    from proxy.cli import demo as story  # noqa: PLC0415

    with telling_what_is_wrong():
        code = uvloop.run(
            story.demo(
                serve=_serve_file,
                # Flushed by click, line by line: whoever reads a pipe waits for the URL.
                say=click.echo,
                complain=partial(click.echo, err=True),
                replicas=replicas,
                port=port,
                keep=keep,
            )
        )
    sys.exit(code)


async def _serve_file(config: Path, on_ready: Callable[[str], None]) -> None:
    """Serve a configuration file until cancelled or told to stop.

    on_ready: called once with the addresses. Raises ConfigError, and OSError when serving failed.
    """
    from proxy.workers import serve  # noqa: PLC0415

    code = await serve(load(config, os.environ), source=config, on_ready=on_ready)
    if code != 0:
        raise OSError("the proxy could not serve; its log says why")
