"""Passwords that a file has or a command prints: kept, asked for anew, bounded in time and size."""

import asyncio
import sys
from pathlib import Path

import pytest

from proxy.config import PasswordSource
from proxy.server import AskedPassword, Passwords, PasswordUnavailable


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One line for each time the command has run."""
    path = tmp_path / "runs"
    path.touch()
    return path


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
def source(runs: Path, token: Path) -> PasswordSource:
    script = 'echo run >> "$1"; cat "$2"'
    return PasswordSource(None, ("/bin/sh", "-c", script, "sh", str(runs), str(token)), 600.0)


def put(file: Path, text: str) -> None:
    file.write_text(text)


def remove(file: Path) -> None:
    file.unlink()


def count(runs: Path) -> int:
    return len(runs.read_text().splitlines())


def test_a_command_is_run_once_for_all_who_ask_and_again_after_its_time(
    clock: Clock, source: PasswordSource, runs: Path, token: Path
) -> None:
    async def ask() -> None:
        passwords = Passwords(clock)
        assert await asyncio.gather(*(passwords.current(source) for _ in range(5))) == ["first"] * 5
        put(token, "second")
        clock.now_s += 599
        assert await passwords.current(source) == "first"
        assert count(runs) == 1
        clock.now_s += 1
        assert await passwords.current(source) == "second"
        assert count(runs) == 2

    asyncio.run(ask())


def test_a_refused_password_is_asked_for_anew_but_not_without_pause(
    clock: Clock, source: PasswordSource, runs: Path, token: Path
) -> None:
    async def ask() -> None:
        passwords = Passwords(clock)
        assert await passwords.current(source) == "first"
        put(token, "second")
        passwords.doubt(source, "another one, refused long ago")
        assert await passwords.current(source) == "first"
        passwords.doubt(source, "first")
        assert await passwords.current(source) == "second"
        put(token, "third")
        passwords.doubt(source, "second")
        assert await passwords.current(source) == "second"
        assert count(runs) == 2
        clock.now_s += 1
        passwords.doubt(source, "second")
        assert await passwords.current(source) == "third"

    asyncio.run(ask())


def test_who_gives_up_waiting_does_not_end_the_command(
    clock: Clock, runs: Path, tmp_path: Path
) -> None:
    script = 'while [ ! -e "$1" ]; do sleep 0.02; done; echo late'
    source = PasswordSource(None, ("/bin/sh", "-c", script, "sh", str(tmp_path / "go")), 600.0)

    async def ask() -> None:
        passwords = Passwords(clock)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await passwords.current(source)
        put(tmp_path / "go", "")
        assert await passwords.current(source) == "late"

    asyncio.run(ask())


FAILURES: dict[str, tuple[tuple[str, ...], str]] = {
    "no program": (("/nowhere/to/be/found",), "cannot be run"),
    "status": (("/bin/sh", "-c", "echo the-secret; exit 3"), "ended with status 3"),
    "silence": (("/bin/true",), "no usable password"),
    "too much": ((sys.executable, "-c", "print('the-secret' * 10**6)"), "printed more than"),
    "endless": (("/bin/sh", "-c", "echo the-secret; sleep 1000 & sleep 1000"), "did not end"),
    "a NUL": (("/bin/sh", "-c", r"printf 'the-secret\0more'"), "no usable password"),
}


@pytest.mark.parametrize(("command", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_command_that_fails_says_why_and_shows_nothing(
    clock: Clock, command: tuple[str, ...], reason: str
) -> None:
    async def ask() -> None:
        passwords = Passwords(clock, limit_s=0.5)
        with pytest.raises(PasswordUnavailable, match=reason) as caught:
            await passwords.current(PasswordSource(None, command, 600.0))
        assert "the-secret" not in str(caught.value)

    asyncio.run(ask())


def test_a_command_that_failed_is_tried_again_after_a_pause(
    clock: Clock, source: PasswordSource, runs: Path, token: Path
) -> None:
    async def ask() -> None:
        passwords = Passwords(clock)
        remove(token)
        for _ in range(3):
            with pytest.raises(PasswordUnavailable):
                await passwords.current(source)
        assert count(runs) == 1
        put(token, "back")
        clock.now_s += 1
        assert await passwords.current(source) == "back"

    asyncio.run(ask())


def test_a_file_is_read_at_each_login(clock: Clock, token: Path) -> None:
    async def ask() -> None:
        passwords, source = Passwords(clock), PasswordSource(token)
        assert await passwords.current(source) == "first"
        put(token, "second")
        assert await passwords.current(source) == "second"
        remove(token)
        with pytest.raises(PasswordUnavailable, match="No such file"):
            await passwords.current(source)

    asyncio.run(ask())


def test_logins_that_ask_the_same_source_are_equal(clock: Clock, source: PasswordSource) -> None:
    passwords = Passwords(clock)
    assert AskedPassword(passwords, source) == AskedPassword(passwords, source)
