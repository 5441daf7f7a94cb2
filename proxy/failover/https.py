"""HTTPS to those that agree or are asked about the primary: what it is opened with and read by."""

import ssl
from collections.abc import Iterable
from pathlib import Path

import aiohttp


def client_context(
    urls: Iterable[str], ca: Path | None, cert: Path | None, key: Path | None
) -> ssl.SSLContext | bool:
    """How their certificates are verified, and ours is shown.

    ca: None for the system's authorities. Result: True where no URL is https. Raises OSError
    when a file cannot be used.
    """
    if not any(url.startswith("https:") for url in urls):
        return True
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


async def read_all(content: aiohttp.StreamReader, most_bytes: int) -> bytes:
    """The body of an answer, in however many pieces it comes. Raises ValueError if it is longer."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise ValueError("an answer without end")
    return bytes(body)
