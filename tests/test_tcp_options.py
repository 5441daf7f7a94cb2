"""What the kernel is asked to do for a connection."""

import socket
from collections.abc import Iterator

import pytest

from proxy.tcp import TcpOptions


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def options_of(sock: socket.socket) -> list[int]:
    tcp = (
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_KEEPCNT,
        socket.TCP_USER_TIMEOUT,
        socket.TCP_NODELAY,
    )
    return [sock.getsockopt(socket.IPPROTO_TCP, each) for each in tcp]


CHOSEN = TcpOptions(True, 50.0, 6.5, 3, 1.5)


def test_what_a_listener_accepts_has_its_options(listener: socket.socket) -> None:
    CHOSEN.apply(listener)
    with socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert options_of(accepted) == [50, 7, 3, 1500, 1]
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_zero_leaves_the_systems_value_and_goes_back_to_it(listener: socket.socket) -> None:
    usual = options_of(listener)
    TcpOptions().apply(listener)
    assert options_of(listener)[:4] == usual[:4]
    CHOSEN.apply(listener)
    TcpOptions(keepalive=False).apply_anew(listener)
    assert options_of(listener)[:4] == usual[:4]
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
