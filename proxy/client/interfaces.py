"""The addresses of this machine, for rules about its own networks.

Asked of the kernel by rtnetlink, because the standard library has no other way to all of them.

Source: rtnetlink(7), `RTM_GETADDR`.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator

from proxy.auth import Interface

_RTM_NEWADDR = 20
_RTM_GETADDR = 22
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_REQUEST_DUMP = 0x301
_IFA_ADDRESS = 1
_IFA_LOCAL = 2

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix bits, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_REPLY_BYTES = 1 << 16


def own_interfaces() -> tuple[Interface, ...]:
    """Every address of this machine and the network it is in. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        length = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(length, _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + body)
        found: list[Interface] = []
        while True:
            for kind, message in _messages(kernel.recv(_REPLY_BYTES)):
                if kind == _NLMSG_DONE:
                    return tuple(found)
                if kind == _NLMSG_ERROR:
                    raise OSError("the kernel does not tell its addresses")
                if kind == _RTM_NEWADDR:
                    found += _interface(message)


def _messages(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(octets):
        length, kind, *_ = _HEADER.unpack_from(octets, at)
        yield kind, octets[at + _HEADER.size : at + length]
        at += max(_aligned(length), _HEADER.size)


def _interface(message: bytes) -> Iterator[Interface]:
    """The address a message tells of; of a point-to-point link the near one."""
    _, bits, *_ = _ADDRESS.unpack_from(message)
    told: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        told[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += max(_aligned(length), _ATTRIBUTE.size)
    packed = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS)
    if packed is not None:
        yield ipaddress.ip_interface((packed, bits))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
