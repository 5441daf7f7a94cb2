"""The fuzz targets under hypothesis and on what the corpus keeps, for every run of the suite."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from tests.fuzz import COMPILED, CORPUS
from tests.fuzz.__main__ import generate
from tests.fuzz.strategies import octets_for
from tests.fuzz.targets import (
    TARGETS,
    client_bytes,
    packets,
    server_bytes,
    typed_messages,
)

# Those that are fed with frames, each by a test of its own.
FRAMED = {"packets", "typed_messages", "client_bytes", "server_bytes"}
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert set(TARGETS) > COMPILED


def test_a_compiled_target_is_fuzzed_without_atheris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generate("backend_key_data", 0.0)
    assert not list(tmp_path.iterdir())


def test_what_breaks_a_compiled_reader_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(octets: bytes) -> None:
        assert b"\0" not in octets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TARGETS, "fields", breaks)
    with pytest.raises(AssertionError):
        generate("fields", 0.0)
    assert b"\0" in (tmp_path / "crash-fields").read_bytes()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_the_corpus_keeps_breaks_no_reader(kept: Path) -> None:
    TARGETS[kept.parent.name](kept.read_bytes())


@pytest.mark.parametrize("name", sorted(set(TARGETS) - FRAMED))
def test_no_bytes_break_a_reader(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(octets_for(name))
    @example(b"")
    @example(b"\0")
    def check(octets: bytes) -> None:
        TARGETS[name](octets)

    check()


@settings(max_examples=60, deadline=None)
@given(octets_for("packets"))
@example(struct.pack("!i", 8) + b"abcd" + struct.pack("!i", 9) + b"abcde")
def test_packets_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    packets(octets)


@settings(max_examples=60, deadline=None)
@given(octets_for("typed_messages"))
@example(b"Q" + struct.pack("!i", 4) + b"p" + struct.pack("!i", 6) + b"ab")
def test_messages_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    typed_messages(octets)


@settings(max_examples=150, deadline=None)
@given(octets_for("client_bytes"))
def test_whatever_a_client_says_is_passed_on_in_whole_messages(octets: bytes) -> None:
    client_bytes(octets)


@settings(max_examples=150, deadline=None)
@given(octets_for("server_bytes"))
def test_whatever_a_server_says_is_passed_on_in_whole_messages(octets: bytes) -> None:
    server_bytes(octets)


# As much of the same as a stranger may send before a login (a password message has 64 KiB); what
# took time or memory by the square of it would not end within the suite's limit for a test.
REPEATED = [
    b"\0",
    b"a\0",
    b",",
    b"a=",
    b"r=",
    b'"',
    b'"" ',
    b"\\",
    b" -c",
    b"\n",
    b"{",
    b"[*",
    b"=",
    b"\xff",
]


@pytest.mark.parametrize("octets", REPEATED, ids=repr)
@pytest.mark.parametrize("name", sorted(set(TARGETS) - FRAMED - {"configuration"}))
def test_much_of_the_same_is_read_in_bounded_memory(name: str, octets: bytes) -> None:
    whole = (octets * 65_536)[:65_536]
    tracemalloc.start()
    try:
        TARGETS[name](whole)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200 * len(whole)
