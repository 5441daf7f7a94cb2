"""`pgweir drain`: empty a proxy on this machine before it is stopped; for Kubernetes's preStop."""

import json
import time
import urllib.error
import urllib.request

import click

from proxy.config import parse_duration

_LOOK_S = 0.5


def _seconds(_ctx: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong


@click.command()
@click.option("--http", default="127.0.0.1:9127", show_default=True, help="Where it serves HTTP.")
@click.option(
    "--after",
    callback=_seconds,
    default="0s",
    help="Be not ready from now on, and begin only after so long.",
)
@click.option(
    "--wait", callback=_seconds, default="60s", show_default=True, help="How long to wait for it."
)
def drain(http: str, after: float, wait: float) -> None:
    """Send clients away as their transactions end, and wait until all are gone.

    The proxy is not ready from now on, and does not end: stop it afterwards.
    """
    until_s = time.monotonic() + after + wait
    try:
        while (clients := _ask(http, after)) and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
    except (OSError, ValueError) as failure:
        raise click.ClickException(f"{http} does not drain: {failure}") from failure
    if clients:
        click.echo(f"{clients} clients are still in a transaction", err=True)


def _ask(http: str, after_s: float) -> int:
    """Begin, if that has not been done. Result: how many clients there are."""
    request = urllib.request.Request(f"http://{http}/drain?after={after_s}", method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return int(json.load(answer)["clients"])
    except urllib.error.HTTPError as refused:
        with refused:
            raise ValueError(refused.read().decode("utf-8", "replace").strip()) from refused
