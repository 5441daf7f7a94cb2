"""The same rules for logins in a real server and in the proxy, and the first words of both."""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.raw_client import SSL_REQUEST, Message, packet, startup
from tests.fixtures.postgres import MONITOR, SUPERUSER, Postgres

# Before the rules of a test, so that its fixtures still come in.
KEEP_OURSELVES = f"""
host all {SUPERUSER},{MONITOR.name} 127.0.0.1/32 scram-sha-256
local all {SUPERUSER},{MONITOR.name} scram-sha-256
"""


@contextmanager
def in_place(node: Postgres, setting: str, text: str) -> Iterator[Path]:
    """Put a text in the place of one of the server's own files, which it does not reload."""
    path = Path(node.value(f"SHOW {setting}"))
    before = path.read_text()
    try:
        path.write_text(text)
        yield path
    finally:
        path.write_text(before)


@contextmanager
def in_force(node: Postgres, rules: str, maps: str) -> Iterator[None]:
    """Have a server go by these rules and maps."""
    try:
        with in_place(node, "hba_file", KEEP_OURSELVES + rules), in_place(node, "ident_file", maps):
            reload(node)
            yield
    finally:
        reload(node)


def reload(node: Postgres) -> None:
    """Have a server read its files, and wait until it has."""
    before = node.value("SELECT pg_conf_load_time()")
    node.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while node.value("SELECT pg_conf_load_time()") == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def first_words(
    place: tuple[str, int] | str, tls: ssl.SSLContext | None, **parameters: str
) -> tuple[Any, ...]:
    """What is asked for at once, or with what words one is refused. place: TCP or a Unix socket."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as plain:
        plain.settimeout(10)
        plain.connect(place)
        end = plain
        if tls is not None:
            plain.sendall(packet(struct.pack("!i", SSL_REQUEST)))
            assert plain.recv(1) == b"S"
            end = tls.wrap_socket(plain)
        with end, end.makefile("rb") as stream:
            end.sendall(startup(**parameters))
            kind = stream.read(1)
            body = stream.read(int.from_bytes(stream.read(4)) - 4)
    if kind == b"E":
        fields = Message(kind, body).fields
        return fields["S"], fields["C"], fields["M"]
    return kind, int.from_bytes(body[:4])
