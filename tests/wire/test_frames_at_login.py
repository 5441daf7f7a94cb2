"""A link's packets and messages while somebody logs in: whole, byte by byte, with more behind."""

import struct
from collections.abc import Iterator

import pytest

from proxy.errors import PeerError
from tests.fuzz.wire_end import WireEnd


@pytest.fixture
def end() -> Iterator[WireEnd]:
    wire_end = WireEnd()
    yield wire_end
    wire_end.close()


PACKET = struct.pack("!i", 12) + b"8 bytes!"
MESSAGE = b"p" + struct.pack("!i", 10) + b"secret"


def test_a_packet_comes_whole(end: WireEnd) -> None:
    end.arrive(PACKET)
    assert end.link.take_packet(100) == b"8 bytes!"
    assert end.link.take_packet(100) is None


def test_a_packet_comes_byte_by_byte(end: WireEnd) -> None:
    for at in range(len(PACKET)):
        assert end.link.take_packet(100) is None
        end.arrive(PACKET[at : at + 1])
    assert end.link.take_packet(100) == b"8 bytes!"


def test_what_is_behind_a_packet_stays_for_the_next(end: WireEnd) -> None:
    end.arrive(PACKET + MESSAGE[:3])
    assert end.link.take_packet(100) == b"8 bytes!"
    assert end.link.has_unread
    end.arrive(MESSAGE[3:])
    assert end.link.take_message(100) == (b"p", b"secret")
    assert not end.link.has_unread


def test_a_message_comes_byte_by_byte(end: WireEnd) -> None:
    for at in range(len(MESSAGE)):
        assert end.link.take_message(100) is None
        end.arrive(MESSAGE[at : at + 1])
    assert end.link.take_message(100) == (b"p", b"secret")


def test_a_message_may_be_empty(end: WireEnd) -> None:
    end.arrive(b"S" + struct.pack("!i", 4))
    assert end.link.take_message(100) == (b"S", b"")


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, 7, 101, 2**31 - 1])
def test_a_packet_of_an_impossible_length_is_the_peers_fault(end: WireEnd, length: int) -> None:
    end.arrive(struct.pack("!i", length))
    with pytest.raises(PeerError):
        end.link.take_packet(100)


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, 101, 2**31 - 1])
def test_a_message_of_an_impossible_length_is_the_peers_fault(end: WireEnd, length: int) -> None:
    end.arrive(b"p" + struct.pack("!i", length))
    with pytest.raises(PeerError):
        end.link.take_message(100)


def test_the_longest_packet_allowed_is_taken(end: WireEnd) -> None:
    end.arrive(struct.pack("!i", 100) + b"x" * 96)
    assert end.link.take_packet(100) == b"x" * 96


def test_an_end_in_the_middle_of_a_packet_is_told(end: WireEnd) -> None:
    end.arrive(PACKET[:-1])
    end.end()
    with pytest.raises(ConnectionResetError):
        end.link.take_packet(100)


def test_an_end_behind_a_packet_is_told_after_it(end: WireEnd) -> None:
    end.arrive(PACKET)
    end.end()
    assert end.link.take_packet(100) == b"8 bytes!"
    with pytest.raises(ConnectionResetError):
        end.link.take_packet(100)


def test_bytes_are_taken_as_they_came(end: WireEnd) -> None:
    end.arrive(b"abcdef")
    assert end.link.take_bytes(4) == b"abcd"
    assert end.link.take_bytes(4) == b"ef"
    assert end.link.take_bytes(4) == b""
