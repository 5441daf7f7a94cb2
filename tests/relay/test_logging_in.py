"""A login goes on as soon as its bytes have come, and ends when they come no more."""

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from proxy.relay import Client, Relay, next_packet
from tests.fuzz.both_ends import SessionControl

PACKET = (12).to_bytes(4) + b"12345678"
MOST = 100


class Stage:
    """A relay that is polled by hand, one client that logs in, and its socket."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.relay = Relay(self.loop, SessionControl(), [1.0])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.far = socket.create_connection(listener.getsockname())
            self.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = self.relay.accept(listener.fileno())
        assert link is not None
        self.link: Client = link

    def turn(self) -> None:
        """Have the loop run what is ready, and the relay nothing."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def begin(self, login: Coroutine[Any, Any, bytes]) -> asyncio.Task[bytes]:
        """A login that waits for its first bytes."""
        task = self.loop.create_task(login)
        self.turn()
        assert not task.done()
        return task

    def close(self) -> None:
        self.link.abandon()
        self.turn()
        self.far.close()
        self.relay.close()
        self.loop.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    staged = Stage()
    yield staged
    staged.close()


def test_it_goes_on_in_the_call_that_brought_its_bytes(stage: Stage) -> None:
    login = stage.begin(next_packet(stage.link, MOST))
    stage.far.sendall(PACKET)
    stage.relay.poll()
    assert login.result() == b"12345678"


def test_part_of_a_packet_is_waited_on(stage: Stage) -> None:
    login = stage.begin(next_packet(stage.link, MOST))
    stage.far.sendall(PACKET[:7])
    stage.relay.poll()
    assert not login.done()
    stage.far.sendall(PACKET[7:])
    stage.relay.poll()
    assert login.result() == b"12345678"


def test_one_after_the_other(stage: Stage) -> None:
    async def two() -> bytes:
        return await next_packet(stage.link, MOST) + await next_packet(stage.link, MOST)

    login = stage.begin(two())
    for _ in range(2):
        stage.far.sendall(PACKET)
        stage.relay.poll()
    assert login.result() == b"1234567812345678"


def test_the_peers_end_ends_it(stage: Stage) -> None:
    login = stage.begin(next_packet(stage.link, MOST))
    stage.far.close()
    stage.relay.poll()
    assert isinstance(login.exception(), ConnectionResetError)


def test_closing_ends_it_but_not_before_whoever_closes_is_done(stage: Stage) -> None:
    login = stage.begin(next_packet(stage.link, MOST))

    async def close() -> bool:
        stage.link.abandon()
        return login.done()

    assert stage.loop.run_until_complete(close()) is False
    stage.turn()
    assert isinstance(login.exception(), ConnectionResetError)


def test_it_is_cancelled_while_it_waits(stage: Stage) -> None:
    login = stage.begin(next_packet(stage.link, MOST))
    login.cancel()
    stage.turn()
    assert login.cancelled()
    stage.far.sendall(PACKET)
    stage.relay.poll()
    assert stage.link.has_unread


def test_a_limit_on_its_time_holds(stage: Stage) -> None:
    async def limited() -> bytes:
        async with asyncio.timeout(0):
            return await next_packet(stage.link, MOST)

    with pytest.raises(TimeoutError):
        stage.loop.run_until_complete(limited())
