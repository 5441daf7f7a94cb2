"""What HTTPS is opened with, to those that agree or are asked about the primary."""

import ssl
from collections.abc import Iterable
from pathlib import Path


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
