"""Files that somebody replaces are noticed, once they have come to rest."""

import os
from pathlib import Path

import pytest

from proxy.watch import Watch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_a_file_that_stays_has_not_changed(file: Path) -> None:
    watch = Watch([file])
    assert not any(watch.has_changed() for _ in range(3))


def test_a_change_counts_once_it_has_come_to_rest_and_until_it_is_settled(file: Path) -> None:
    watch = Watch([file])
    file.write_text("another")
    assert [watch.has_changed() for _ in range(3)] == [False, True, True]
    watch.settle()
    assert not watch.has_changed()


def test_a_file_of_the_same_size_and_time_that_took_its_place_is_another(file: Path) -> None:
    watch = Watch([file])
    other = file.with_name("other")
    other.write_text("two")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.rename(file)
    assert [watch.has_changed() for _ in range(2)] == [False, True]


def test_a_file_that_goes_and_comes_back_is_noticed(file: Path) -> None:
    watch = Watch([file])
    file.unlink()
    assert [watch.has_changed() for _ in range(2)] == [False, True]
    file.write_text("three")
    assert [watch.has_changed() for _ in range(2)] == [False, True]


def test_what_was_written_just_before_is_read_once_more(file: Path) -> None:
    file.write_text("fresh")
    watch = Watch([file])
    assert watch.has_changed()
    watch.settle()
    assert not watch.has_changed()
