"""`pgweir top`: a live view of a proxy in the terminal, of what its /api/status says."""

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from importlib import import_module
from typing import Any

import click

TIMEOUT_S = 5


@click.command()
@click.option(
    "--http",
    "address",
    default="127.0.0.1:9127",
    show_default=True,
    help="Where it serves HTTP, as HOST:PORT or a URL, which may hold user and password.",
)
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True)
def top(address: str, interval: float) -> None:
    """Show nodes, pools and top statements of a proxy that runs, until q.

    A bearer token is taken from $PGWEIR_HTTP_TOKEN.
    """
    try:
        board = import_module("proxy.cli.board")
    except ImportError as missing:
        raise click.ClickException(
            "this needs a part that is not installed; pip install 'pgweir[top]'"
        ) from missing
    ask = Source(address, os.environ.get("PGWEIR_HTTP_TOKEN"))
    try:
        ask.status()
    except (OSError, ValueError) as failure:
        raise click.ClickException(f"{ask.place} does not answer: {failure}") from failure
    board.Board(ask.status, ask.place, interval).run()


class Source:
    """Where the status comes from. place: the address without secrets."""

    def __init__(self, address: str, token: str | None = None) -> None:
        url = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
        self.place = f"{url.hostname}:{url.port or 9127}"
        self._url = f"{url.scheme}://{self.place}/api/status"
        self._headers = {}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif url.username is not None:
            pair = (
                f"{urllib.parse.unquote(url.username)}:{urllib.parse.unquote(url.password or '')}"
            )
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def status(self) -> dict[str, Any]:
        """What it says now. Raises OSError, or ValueError when that is no status."""
        request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            status: dict[str, Any] = json.load(answer)
        if status.get("name") != "pgweir":
            raise ValueError("what answers there is no pgweir")
        return status
