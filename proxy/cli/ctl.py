"""`pgweir ctl`: send one command to the console of a proxy that runs, and print what it says."""

import asyncio
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import click

from proxy.cli.refusal import telling_what_is_wrong
from proxy.cluster import DIALLING_FAILURES
from proxy.config import Config, load

_CONSOLE = "pgweir"
_URL = "PGWEIR_URL"
# Connecting; a PAUSE may take as long as transactions do.
_CONNECT_S = 10.0
_SYNTAX_ERROR = "42601"

Place = Mapping[str, Any]
"""What asyncpg connects with."""


@click.command()
@click.option("-c", "--config", "file", metavar="FILE", help=f"YAML file; else ${_URL}.")
@click.option("--json", "form", flag_value="json", help="Print an array of objects.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values.")
@click.argument("command", nargs=-1, required=True)
def ctl(file: str | None, form: str | None, command: tuple[str, ...]) -> None:
    """Send an admin command to a proxy that runs, such as `show pools`.

    The console is where the file says that clients connect, and the first of `auth.admins` whose
    password stands there in plain logs in; or $PGWEIR_URL says both.
    """
    place = _place(file, os.environ)
    sys.exit(asyncio.run(_send(place, text_of(command), form or "table")))


def text_of(arguments: Sequence[str]) -> str:
    """A command from a shell's words: one alone is the text, others are quoted where need be."""
    if len(arguments) == 1:
        return arguments[0]
    return " ".join(
        each if re.fullmatch(r"[\w.:$=*-]+", each) else '"' + each.replace('"', '""') + '"'
        for each in arguments
    )


def _place(file: str | None, environ: Mapping[str, str]) -> Place:
    if file is not None:
        with telling_what_is_wrong():
            config = load(Path(file), environ)
        return place_of(config)
    if url := environ.get(_URL):
        return {"dsn": url}
    raise click.UsageError(f"Where is the console? Give -c FILE, or set {_URL}.")


def place_of(config: Config) -> Place:
    """Where a proxy with this configuration has its console. Raises click.UsageError."""
    listen, auth = config.listen, config.auth
    first = listen.host.split(",")[0].strip()
    host = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)  # noqa: S104
    if not host and listen.unix_socket_dir is not None:
        host = str(listen.unix_socket_dir)
    if not (host and listen.port):
        raise click.UsageError(
            f"The file does not say where clients connect; set {_URL}.",
        )
    place: dict[str, Any] = {"host": host, "port": listen.port, "database": _CONSOLE}
    place["ssl"] = "disable" if listen.tls.mode == "disable" else "prefer"
    for name in (*auth.admins, *auth.stats):
        user = auth.users.get(name)
        secret = "" if user is None or user.password is None else str(user.password)
        if auth.method == "trust":
            return {**place, "user": name}
        if secret and not secret.startswith(("SCRAM-SHA-256$", "md5")):
            return {**place, "user": name, "password": secret}
    if listen.unix_socket_dir is not None and listen.port:
        # Who runs the proxy need not log in.
        return {**place, "host": str(listen.unix_socket_dir), "user": _CONSOLE, "ssl": "disable"}
    raise click.UsageError(
        f"The file has no user of the console with a password in plain; set {_URL}."
    )


async def _send(place: Place, command: str, form: str) -> int:
    """Result: the exit code."""
    try:
        connection = await asyncpg.connect(**place, timeout=_CONNECT_S)
    except DIALLING_FAILURES as failed:
        click.echo(f"pgweir ctl: cannot reach the console: {failed or 'no answer'}", err=True)
        return 1
    notices: list[str] = []
    connection.add_log_listener(lambda _, notice: notices.append(_said(notice)))
    try:
        prepared = await connection.prepare(command)
        names = [attribute.name for attribute in prepared.get_attributes()]
        rows = [tuple(row) for row in await prepared.fetch()]
        tag = prepared.get_statusmsg()
    except asyncpg.PostgresError as refused:
        click.echo(f"pgweir ctl: {_said(refused)}", err=True)
        return 2 if refused.sqlstate == _SYNTAX_ERROR else 1
    except DIALLING_FAILURES as lost:
        click.echo(f"pgweir ctl: the connection was lost: {lost}", err=True)
        return 1
    finally:
        connection.terminate()
    # Listeners are called in the loop's next turn.
    await asyncio.sleep(0)
    for notice in notices:
        click.echo(notice, err=form != "table")
    if names:
        _FORMS[form](names, rows)
    elif not notices or form == "table":
        click.echo(tag)
    return 0


def _said(message: Any) -> str:
    """An error or a notice with its detail and hint."""
    lines = [str(message.args[0] if getattr(message, "args", None) else message)]
    if detail := getattr(message, "detail", None):
        lines.append(str(detail))
    if hint := getattr(message, "hint", None):
        lines.append(f"HINT: {hint}")
    return "\n".join(lines)


def _print_table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(names)]
    is_number = [
        bool(rows) and all(isinstance(row[at], int | float) or row[at] is None for row in rows)
        for at in range(len(names))
    ]

    def line(values: Sequence[str]) -> str:
        return " | ".join(
            value.rjust(width) if numeric else value.ljust(width)
            for value, width, numeric in zip(values, widths, is_number, strict=True)
        ).rstrip()

    click.echo(line(names))
    click.echo("-+-".join("-" * width for width in widths))
    for row in cells:
        click.echo(line(row))


def _print_json(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_plain))


def _plain(value: Any) -> Any:
    """A numeric is a whole number here."""
    return int(value)


def _print_csv(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    writer.writerows(rows)


_FORMS: Mapping[str, Callable[[Sequence[str], Sequence[tuple[Any, ...]]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}
