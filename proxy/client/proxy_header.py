"""The PROXY protocol: a balancer in front of us says whose connection this is.

`HeaderReader` is pure. It says how many bytes it may take without taking any of the client's own,
so that what follows the header is left where it is. Who may send a header at all is for the door
to say; from anybody else it is garbage in a startup packet.

Source: HAProxy, doc/proxy-protocol.txt ("The PROXY protocol, versions 1 & 2").
"""

import ipaddress
import struct
from dataclasses import dataclass

from proxy.errors import PeerError
from proxy.relay import Client, next_bytes

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
# Bytes that belong to a header of either version: the shortest has 15.
_START_BYTES = 12
_V1_MOST_BYTES = 107
_V2_FIXED = struct.Struct("!12sBBH")

_LOCAL, _PROXY = 0, 1
_MOST_FAMILY = 3
_MOST_TRANSPORT = 2
# Family and transport of what we take the address from, and how it is written: TCP by IPv4 or IPv6.
_V2_ADDRESSES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}

_V1_FAMILIES: dict[bytes, type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says. address: the client's, as `Client.address`; None: the balancer's own.

    None is what a health check of the balancer says (LOCAL), and a family that has no address.
    """

    address: str | None


class HeaderReader:
    """Reads one header, whole or in pieces.

    wants: bytes that may be fed next, all of them the header's; 1 or more until there is a result.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def wants(self) -> int:
        """How many bytes may be fed next."""
        held = self._held
        if len(held) < _START_BYTES:
            return _START_BYTES - len(held)
        if held.startswith(_V1_START):
            # Its length is not announced: one byte at a time, up to its end.
            return 1
        if len(held) < _V2_FIXED.size:
            return _V2_FIXED.size - len(held)
        return _V2_FIXED.size + int.from_bytes(held[14:16]) - len(held)

    def feed(self, octets: bytes) -> ProxyHeader | None:
        """Take up to `wants` bytes; give the header once it is whole. Raises PeerError."""
        held = self._held
        held += octets
        if not any(start.startswith(held[: len(start)]) for start in (_V1_START, _V2_START)):
            raise PeerError("a PROXY header was expected and something else came")
        if held.startswith(_V1_START):
            line, end, _ = bytes(held).partition(b"\r\n")
            if end:
                return _read_v1(line)
            if len(held) >= _V1_MOST_BYTES:
                raise PeerError("the PROXY header of version 1 does not end")
            return None
        if len(held) < _V2_FIXED.size or self.wants:
            return None
        return _read_v2(bytes(held))


def _read_v1(line: bytes) -> ProxyHeader:
    """Read `PROXY TCP4 SOURCE DESTINATION SOURCEPORT DESTINATIONPORT`."""
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(None)
    family = _V1_FAMILIES.get(words[1])
    # An IPv6 address may have a zone in Python, and anything may stand in it.
    if family is None or len(words) != 6 or b"%" in line:
        raise _malformed(1)
    try:
        source, _ = (family(word.decode("ascii")) for word in words[2:4])
    except ValueError:
        raise _malformed(1) from None
    for port in words[4:]:
        # int() also takes signs, spaces and underscores.
        if not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF:
            raise _malformed(1)
    return ProxyHeader(_write_address(source, int(words[4])))


def _read_v2(header: bytes) -> ProxyHeader:
    """Read a whole header of version 2; what follows the addresses (TLVs) is skipped."""
    _, version_and_command, kind, _ = _V2_FIXED.unpack_from(header)
    version, command = version_and_command >> 4, version_and_command & 0xF
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise _malformed(2)
    if kind >> 4 > _MOST_FAMILY or kind & 0xF > _MOST_TRANSPORT:
        raise _malformed(2)
    form = _V2_ADDRESSES.get(kind)
    if command == _LOCAL or form is None:
        return ProxyHeader(None)
    if len(header) < _V2_FIXED.size + form.size:
        raise _malformed(2)
    source, _, port, _ = form.unpack_from(header, _V2_FIXED.size)
    return ProxyHeader(_write_address(ipaddress.ip_address(source), port))


def _malformed(version: int) -> PeerError:
    return PeerError(f"malformed PROXY header of version {version}")


def _write_address(source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    if isinstance(source, ipaddress.IPv6Address):
        # A balancer that listens on both families: rules and limits know the client by its IPv4.
        if source.ipv4_mapped is None:
            return f"[{source}]:{port}"
        source = source.ipv4_mapped
    return f"{source}:{port}"


async def learn_address(client: Client) -> None:
    """Take the header that stands before all the client says, and note the address it names.

    Raises PeerError when there is none, ConnectionResetError.
    """
    reader = HeaderReader()
    while (header := reader.feed(await next_bytes(client, reader.wants))) is None:
        pass
    if header.address is not None:
        client.address = header.address
