"""`pgweir run`: serve, by a file or by environment variables."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from proxy.cli.refusal import tell_warnings, telling_what_is_wrong
from proxy.config import Config, Flags, from_environment, load


@click.command()
@click.argument("named", metavar="[FILE]", required=False)
@click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    help="YAML, or a pgbouncer.ini; without one, DATABASE_URL.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect.")
@click.option("--http", metavar="HOST:PORT", help="Where /metrics and the health checks are.")
@click.option("--pool-size", type=click.IntRange(min=1), help="Server connections per pool.")
@click.option("--watch", is_flag=True, help="Reload when the configuration's files have changed.")
@click.option("-d", "--daemon", is_flag=True, help="Go into the background; needs a pidfile.")
@click.option("-q", "--quiet", is_flag=True, help="Write nothing to standard error.")
@click.option("-v", "--verbose", count=True, help="Log more.")
@click.option("-u", "--user", metavar="USER", help="Become this account; for who is root.")
@click.option(
    "-R", "--reboot", is_flag=True, help="Take the place of the process that the pidfile names."
)
def run(
    named: str | None,
    file: str | None,
    listen: str | None,
    http: str | None,
    pool_size: int | None,
    *,
    watch: bool,
    daemon: bool,
    quiet: bool,
    verbose: int,
    user: str | None,
    reboot: bool,
) -> None:
    """Serve.

    With a file, as it says. Without one, DATABASE_URL names the primary and DATABASE_REPLICA_URLS
    the replicas, separated by commas. Flags win over the file.
    """
    if named is not None and file is not None:
        raise click.UsageError("name one file, with -c or without")
    file = file or named
    source = None if file is None else Path(file)
    flags = Flags(
        listen=listen,
        http=http,
        pool_size=pool_size,
        # In the background there is nobody to read it.
        quiet=quiet or daemon,
        verbose=verbose > 0,
        user=user,
        watch=watch,
    )
    with telling_what_is_wrong():
        if source is None:
            config = from_environment(os.environ, **flags)
        else:
            config = load(source, os.environ, **flags)
    if config.process.pidfile is None and (daemon or reboot):
        raise click.UsageError(f"{'-d' if daemon else '-R'} needs a pidfile in the configuration")
    if not quiet:
        tell_warnings(config.warnings)
    try:
        with telling_what_is_wrong():
            code = _serve(config, source, daemon=daemon, reboot=reboot)
    except OSError as error:
        # An address that is taken, a folder that may not be written: the operator's to put right.
        click.echo(f"pgweir run: {error}", err=True)
        code = 1
    sys.exit(code)


def _serve(config: Config, source: Path | None, *, daemon: bool, reboot: bool) -> int:
    """Become what is asked for, and serve. Raises OSError."""
    # Only now, so that a mistake in the file is told before the compiled rooms are loaded.
    import uvloop  # noqa: PLC0415

    from proxy.workers import (  # noqa: PLC0415
        Share,
        Supervisor,
        become,
        claimed,
        detach,
        handed_over,
        let_go_of_terminal,
        running_pid,
        serve,
    )

    process = config.process
    if process.user is not None:
        become(process.user)
    replaces = running_pid(process.pidfile) if reboot and process.pidfile is not None else None
    serves = detach() if daemon else None
    inherited = handed_over(os.environ)
    count = config.workers or len(os.sched_getaffinity(0))

    def run_one(config: Config, share: Share, serves: Callable[[], None]) -> int:
        def is_there(_line: str) -> None:
            serves()
            if daemon:
                let_go_of_terminal()

        return uvloop.run(serve(config, on_ready=is_there, share=share))

    with claimed(process.pidfile, replaces=replaces):
        if count > 1:
            supervisor = Supervisor(config, count, source=source, run=run_one)
            return supervisor.serve(on_ready=serves, replaces=replaces, inherited=inherited)
        return uvloop.run(
            serve(
                config,
                source=source,
                on_ready=None if serves is None else lambda _line: serves(),
                replaces=replaces,
                inherited=inherited,
            )
        )
