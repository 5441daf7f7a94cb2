"""A client's first packet, checked."""

import struct

import pytest

from proxy.client import read_startup
from proxy.errors import ClientError, PeerError
from proxy.tls import TlsFacts


def packet(version: int, *texts: str) -> bytes:
    body = "".join(text + "\0" for text in texts).encode()
    return struct.pack("!i", version) + body + b"\0"


def test_a_database_not_named_is_the_users() -> None:
    found = read_startup(196608, packet(196608, "user", "u"))
    assert (found.user, found.database) == ("u", "u")


def test_what_is_remembered_of_a_packet_is_nobody_elses() -> None:
    """The same packet was read before: over TLS by somebody whose certificate said who that was."""
    said = packet(196608, "user", "u", "application_name", "a")
    shown = TlsFacts("TLSv1.3", "c", "ann", "CN=ann")
    other = TlsFacts("TLSv1.3", "c", "bob", "CN=bob")
    read = [read_startup(196608, said, tls) for tls in (shown, None, other, shown)]
    assert [each.tls for each in read] == [shown, None, other, shown]
    with pytest.raises(TypeError):
        read[0].parameters["user"] = "v"  # type: ignore[index]


@pytest.mark.parametrize(
    ("minor", "spoken", "negotiate"), [(0, 0, False), (1, 0, True), (2, 2, False), (9, 2, True)]
)
def test_the_newest_version_both_know_is_spoken(minor: int, spoken: int, negotiate: bool) -> None:
    version = 196608 + minor
    found = read_startup(version, packet(version, "user", "u"))
    assert (found.minor, found.negotiate) == (spoken, negotiate)


def test_options_of_the_protocol_that_are_not_known_are_told() -> None:
    found = read_startup(196608, packet(196608, "user", "u", "_pq_.x", "1"))
    assert (found.unsupported, found.negotiate) == (("_pq_.x",), True)


@pytest.mark.parametrize("version", [0, 131072, 4 << 16, -1])
def test_another_major_version_is_refused(version: int) -> None:
    with pytest.raises(ClientError) as caught:
        read_startup(version, packet(196608, "user", "u"))
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("texts", [(), ("database", "d"), ("user", "")])
def test_a_packet_without_a_user_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(ClientError) as caught:
        read_startup(196608, packet(196608, *texts))
    assert caught.value.sqlstate == "28000"


def test_a_malformed_packet_is_the_peers_fault() -> None:
    with pytest.raises(PeerError):
        read_startup(196608, struct.pack("!i", 196608) + b"user\0u")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("true", True), ("on", True), ("database", True), ("1", True), ("FALSE", False), ("0", False)],
)
def test_replication_is_wanted_when_it_is_said(value: str, wanted: bool) -> None:
    found = read_startup(196608, packet(196608, "user", "u", "replication", value))
    assert found.wants_replication is wanted
