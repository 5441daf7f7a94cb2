"""What blocks is done in threads: so many, and each waited for only so long."""

import asyncio
import threading

import pytest

from proxy.client.aside import Aside


async def test_what_a_thread_gives_comes_back() -> None:
    assert await Aside().run(lambda: threading.current_thread().daemon, 5.0) is True


async def test_what_a_thread_raises_is_raised() -> None:
    def fail() -> None:
        raise LookupError("as it should")

    with pytest.raises(LookupError):
        await Aside().run(fail, 5.0)


async def test_who_does_not_get_done_in_time_is_given_up_and_keeps_its_place() -> None:
    aside, over = Aside(at_once=1), threading.Event()
    with pytest.raises(TimeoutError):
        await aside.run(lambda: over.wait(30), 0.05)
    with pytest.raises(TimeoutError):
        await aside.run(lambda: None, 0.05)
    over.set()
    await aside.run(lambda: None, 5.0)


async def test_no_more_run_at_once_than_there_are_places() -> None:
    aside, running, most = Aside(at_once=2), 0, 0
    lock, both = threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                both.set()
        both.wait(5)
        with lock:
            running -= 1

    await asyncio.gather(*(aside.run(work, 10.0) for _ in range(8)))
    assert most == 2


async def test_a_client_that_leaves_frees_its_place_when_the_thread_is_done() -> None:
    aside, over = Aside(at_once=1), threading.Event()
    leaving = asyncio.create_task(aside.run(lambda: over.wait(30), 30.0))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    over.set()
    assert await aside.run(lambda: "next", 5.0) == "next"
