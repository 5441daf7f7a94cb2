"""A name on a machine is one process's at a time, also when some are stopped and wake up again."""

import itertools
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from proxy.failover.names import BoundName, NameRow


@pytest.fixture
def stem() -> str:
    return f"\0pgweir-test/{uuid.uuid4()}"


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def rows(stem: str) -> Iterator[tuple[Now, list[NameRow]]]:
    """Those of three processes, ten seconds each."""
    now = Now()
    rows = [NameRow(stem, 10.0, now) for _ in range(3)]
    yield now, rows
    for row in rows:
        row.close()


def test_who_answers_keeps_its_name_and_who_does_not_is_passed_over(
    rows: tuple[Now, list[NameRow]],
) -> None:
    now, (one, other, third) = rows
    held = one.bind()
    assert held is not None
    for _ in range(5):
        assert other.bind() is None
        now.s += 9.0
        held.answer()
    assert other.bind() is None
    now.s += 10.0
    heir = other.bind()
    assert heir is not None
    # It has seen neither of them at work, and waits as long for the second.
    assert third.bind() is None
    heir.close()
    assert third.bind() is None
    now.s += 10.0
    last = third.bind()
    assert last is not None
    held.close()
    assert other.bind() is None
    last.close()
    again = other.bind()
    assert again is not None
    again.close()


def test_a_holder_that_has_gone_between_is_not_passed_over(
    rows: tuple[Now, list[NameRow]],
) -> None:
    now, (one, other, third) = rows
    held = one.bind()
    assert held is not None
    assert other.bind() is None
    now.s += 10.0
    # Another has its name now, and is at work.
    held.close()
    newer = third.bind()
    assert newer is not None
    assert other.bind() is None
    newer.close()


class Interrupted(NameRow):
    """A process whose last look is late: something happens after it has bound its name."""

    meanwhile: Callable[[], None]

    def _take(self) -> tuple[int, BoundName] | None:
        taken = super()._take()
        self.meanwhile()
        return taken


def test_who_has_bound_a_name_looks_once_more(stem: str, rows: tuple[Now, list[NameRow]]) -> None:
    now, (one, other, _) = rows
    late = Interrupted(stem, 10.0, now)
    held = one.bind()
    assert held is not None
    for row in (late, other):
        assert row.bind() is None
    now.s += 10.0
    found: list[BoundName | None] = []
    # Another passes the same holder over: it sees the one that was before it.
    late.meanwhile = lambda: found.append(other.bind())
    heir = late.bind()
    assert heir is not None
    assert found == [None]
    heir.close()

    def wake_up() -> None:
        held.close()
        found.append(one.bind())

    # The holder is there again, and has taken its name anew.
    late.meanwhile = wake_up
    assert late.bind() is None
    # It has seen the name that was bound meanwhile, and goes back as well.
    assert found == [None, None]
    late.close()


def test_a_name_that_nobody_can_knock_at_yet_is_left_out(
    stem: str, rows: tuple[Now, list[NameRow]]
) -> None:
    _, (one, other, _) = rows
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(f"{stem}/0")
        held = one.bind()
        assert held is not None
        stopped.listen()
        assert other.bind() is None
        held.close()


class Stage:
    """Processes that take a name, work for some moments, and stop now and then."""

    TTL_S = 0.02

    def __init__(self, stem: str) -> None:
        self._stem = stem
        self._until = time.monotonic() + 3.0
        self.held: list[tuple[float, float]] = []
        self.failed: list[BaseException] = []

    def play(self, seed: int) -> None:
        try:
            self._play(random.Random(seed))
        except BaseException as failed:  # noqa: BLE001 -- shown by the test
            self.failed.append(failed)

    def _play(self, chance: random.Random) -> None:
        row = NameRow(self._stem, self.TTL_S, time.monotonic)
        while time.monotonic() < self._until:
            asked_at = time.monotonic()
            if (bound := row.bind()) is None:
                time.sleep(chance.uniform(0.0, 0.005))
                continue
            since, until = time.monotonic(), asked_at + self.TTL_S
            while chance.random() < 0.8:
                time.sleep(chance.choice([0.002, 0.004, self.TTL_S * 2]))
                if (now := time.monotonic()) >= until:
                    break
                bound.answer()
                until = now + self.TTL_S
            self.held.append((since, min(until, time.monotonic())))
            bound.close()
        row.close()


def test_no_two_have_it_at_the_same_time(stem: str) -> None:
    stage = Stage(stem)
    threads = [threading.Thread(target=stage.play, args=(seed,)) for seed in range(6)]
    # They come between each other's steps, wherever they are.
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(usual_s)
    assert not stage.failed
    held = sorted(each for each in stage.held if each[0] < each[1])
    assert len(held) > 20
    together = [(one, other) for one, other in itertools.pairwise(held) if other[0] < one[1]]
    assert not together
