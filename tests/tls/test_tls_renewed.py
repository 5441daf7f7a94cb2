"""Files that change are read again, once they have come to rest, if they are any use."""

import logging
import os
from pathlib import Path

import pytest

from proxy.tls import Renewed


def renewed(*files: Path) -> Renewed[str]:
    """The files' words; a file without one is of no use."""

    def read() -> str:
        text = " ".join(file.read_text() for file in files)
        if not text.strip():
            raise ValueError("nothing in it")
        return text

    return Renewed((*files, None), read)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return aged(tmp_path / "cert")


def aged(path: Path) -> Path:
    """A file that was not written just now."""
    path.write_text("old")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_what_has_not_changed_is_not_made_again(file: Path) -> None:
    made = renewed(file)
    before = made.value
    made.look()
    made.look()
    assert made.value is before


def test_a_file_written_over_is_read_when_it_rests(file: Path) -> None:
    made = renewed(file)
    file.write_text("newer")
    made.look()
    assert made.value == "old"
    made.look()
    assert made.value == "newer"


def test_two_files_are_read_together(file: Path, tmp_path: Path) -> None:
    key = aged(tmp_path / "key")
    made = renewed(file, key)
    file.write_text("newer")
    made.look()
    key.write_text("newer")
    made.look()
    assert made.value == "old old"
    made.look()
    assert made.value == "newer newer"


@pytest.mark.parametrize("harm", ["emptied", "removed"])
def test_what_is_of_no_use_leaves_the_old_and_says_so_once(
    file: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = renewed(file)
    if harm == "emptied":
        file.write_text("")
    else:
        file.unlink()
    with caplog.at_level(logging.INFO, "pgweir.tls"):
        for _ in range(4):
            made.look()
    assert made.value == "old"
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    file.write_text("mended")
    made.look()
    made.look()
    assert made.value == "mended"


def test_the_first_making_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        renewed(tmp_path / "none")
