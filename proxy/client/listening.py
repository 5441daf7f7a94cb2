"""Opening the sockets that clients come in by."""

import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from proxy.tcp import TcpOptions


def open_listeners(
    host: str,
    port: int,
    backlog: int,
    tcp: TcpOptions,
    *,
    is_shared: bool = False,
    handed: Iterable[socket.socket] = (),
) -> tuple[list[socket.socket], int]:
    """Listen on TCP; port 0 takes a free one. Result: the sockets, and the port. Raises OSError.

    host: addresses, separated by commas; `*` is all of them, nothing is none.
    is_shared: let other sockets listen there, too; the kernel deals out who comes. handed: sockets
    that are listened on already, by somebody else; those at these addresses are used.
    """
    opened: list[socket.socket] = []
    try:
        for address in split_addresses(host):
            for family, kind, _, _, place in socket.getaddrinfo(
                None if address == "*" else address,
                port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            ):
                if known := [each for each in handed if _is_at(each, family, (place[0], port))]:
                    opened += [_taken_over(each, backlog, tcp) for each in known]
                    continue
                sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
                opened.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if is_shared:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                # What is accepted inherits them.
                tcp.apply(sock)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((place[0], port, *place[2:]))
                sock.listen(backlog)
                port = sock.getsockname()[1]
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened, port


def open_unix_listener(
    folder: Path,
    port: int,
    backlog: int,
    mode: int = 0o777,
    group: str | None = None,
    *,
    handed: Iterable[socket.socket] = (),
) -> tuple[socket.socket, Path]:
    """Listen on a Unix socket, named as PostgreSQL names it. Raises OSError.

    handed: as for `open_listeners`.
    """
    path = folder / f".s.PGSQL.{port}"
    known = [
        each
        for each in handed
        if each.family == socket.AF_UNIX and each.getsockname() == str(path) and path.is_socket()
    ]
    if known:
        sock = known[0].dup()
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if not known:
            _remove_stale(path)
            sock.bind(str(path))
        if group is not None:
            shutil.chown(path, group=group)
        path.chmod(mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock, path


def _is_at(sock: socket.socket, family: int, place: tuple[str | int, int]) -> bool:
    return sock.family == family and sock.getsockname()[:2] == place


def _taken_over(known: socket.socket, backlog: int, tcp: TcpOptions) -> socket.socket:
    sock = known.dup()
    tcp.apply(sock)
    sock.listen(backlog)
    return sock


def split_addresses(host: str) -> list[str]:
    """The addresses of a list; one that stands twice is one."""
    return list(dict.fromkeys(each.strip() for each in host.split(",") if each.strip()))


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; one that is in use is left, and bind fails."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            pass
