"""The PROXY protocol's header, read whole, byte by byte and with the client's bytes behind it."""

import ipaddress
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client.proxy_header import HeaderReader, ProxyHeader
from proxy.errors import PeerError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"\0\0\0\x08\x04\xd2\x16\x2f"
Reading = Callable[[bytes], tuple[ProxyHeader | None, bytes]]


def whole(octets: bytes) -> tuple[ProxyHeader | None, bytes]:
    """Feed as much as is wanted each time. Result: the header, and what was left alone."""
    reader = HeaderReader()
    while octets:
        wants = reader.wants
        assert wants > 0
        found = reader.feed(octets[:wants])
        octets = octets[wants:]
        if found is not None:
            return found, octets
    return None, b""


def byte_by_byte(octets: bytes) -> tuple[ProxyHeader | None, bytes]:
    reader = HeaderReader()
    for at in range(len(octets)):
        assert reader.wants > 0
        found = reader.feed(octets[at : at + 1])
        if found is not None:
            return found, octets[at + 1 :]
    return None, b""


def v2(command: int, kind: int, body: bytes, version: int = 2) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, kind, len(body)) + body


def inet(source: str, port: int) -> bytes:
    packed = ipaddress.ip_address(source).packed
    return packed + bytes(len(packed)) + struct.pack("!HH", port, 6432)


TLVS = b"\x04\x00\x03abc" + b"\xea\x00\x00"

UNDERSTOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 6432\r\n", "192.0.2.7:56324"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 ::1 56324 6432\r\n", "[2001:db8::7]:56324"),
    "v1 longest": (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        "[" + "ffff:" * 7 + "ffff]:65535",
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with words": (b"PROXY UNKNOWN ffff::1 what ever\r\n", None),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7:1"),
    "v2 TCP4": (v2(1, 0x11, inet("192.0.2.7", 1)), "192.0.2.7:1"),
    "v2 TCP6": (v2(1, 0x21, inet("2001:db8::7", 2)), "[2001:db8::7]:2"),
    "v2 TLVs": (v2(1, 0x11, inet("192.0.2.7", 1) + TLVS), "192.0.2.7:1"),
    "v2 longest": (
        v2(1, 0x11, inet("192.0.2.7", 1).ljust(0xFFFF, b"\xea")),
        "192.0.2.7:1",
    ),
    "v2 LOCAL": (v2(0, 0x00, b""), None),
    "v2 LOCAL with an address": (v2(0, 0x11, inet("192.0.2.7", 1)), None),
    "v2 no family": (v2(1, 0x00, b"whatever"), None),
    "v2 Unix": (v2(1, 0x31, bytes(216)), None),
    "v2 UDP": (v2(1, 0x12, inet("192.0.2.7", 1)), None),
}


@pytest.mark.parametrize("read", [whole, byte_by_byte])
@pytest.mark.parametrize(("octets", "address"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_header_names_the_client_and_ends_where_the_client_begins(
    octets: bytes, address: str | None, read: Reading
) -> None:
    assert read(octets + BEHIND) == (ProxyHeader(address), BEHIND)


MALFORMED = {
    "a startup packet": struct.pack("!ii", 40, 196608) + b"user\0app\0database\0demo\0\0",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0",
    "v1 without an end": b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 6432" + b" " * 80,
    "v1 end too early": b"PROXY TCP4\r\n" + b"x" * 20,
    "v1 nothing said": b"PROXY \r\nxxxxxxxxx",
    "v1 other family": b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
    "v1 wrong family": b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%\n ::1 1 2\r\n",
    "v1 port": b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
    "v1 signed port": b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
    "v1 not ASCII": b"PROXY TCP4 192.0.2.\xd9\xa7 10.0.0.1 1 2\r\n",
    "v2 version 1": v2(1, 0x11, inet("192.0.2.7", 1), version=1),
    "v2 command": v2(2, 0x11, inet("192.0.2.7", 1)),
    "v2 family": v2(1, 0x41, inet("192.0.2.7", 1)),
    "v2 transport": v2(1, 0x13, inet("192.0.2.7", 1)),
    "v2 half an address": v2(1, 0x11, inet("192.0.2.7", 1)[:-1]),
}


@pytest.mark.parametrize("read", [whole, byte_by_byte])
@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_header_is_the_peers_fault(octets: bytes, read: Reading) -> None:
    with pytest.raises(PeerError, match="PROXY header"):
        read(octets)


ADDRESSES = st.builds(lambda ip, port: (str(ip), port), st.ip_addresses(), st.integers(0, 0xFFFF))


@given(ADDRESSES, st.booleans(), st.binary(max_size=40), st.binary(max_size=300))
def test_every_address_is_read_alike_in_any_pieces(
    source: tuple[str, int], in_v1: bool, behind: bytes, tlvs: bytes
) -> None:
    address, port = source
    family = 6 if ":" in address else 4
    if in_v1:
        octets = f"PROXY TCP{family} {address} {address} {port} 6432\r\n".encode()
    else:
        octets = v2(1, 0x21 if family == 6 else 0x11, inet(address, port) + tlvs)
    found, left = whole(octets + behind)
    assert (found, left) == byte_by_byte(octets + behind)
    assert found is not None and found.address is not None and left == behind
    assert found.address.endswith(f":{port}")


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: b"PROXY " + rest),
        st.binary(max_size=200).map(lambda rest: SIGNATURE + rest),
        st.text("PROXYTCP46 \r\n0123.:fU", max_size=120).map(str.encode),
    )
)
def test_any_bytes_are_a_header_a_refusal_or_not_enough(octets: bytes) -> None:
    def outcome(read: Reading) -> object:
        try:
            return read(octets)
        except PeerError:
            return PeerError

    assert outcome(whole) == outcome(byte_by_byte)
