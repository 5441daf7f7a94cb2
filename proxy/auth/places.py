"""Where a connection comes from, and the places that rules name.

Source: PostgreSQL documentation, "The pg_hba.conf File" (address, IP-mask).
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from proxy.auth.hba_text import UnreadableLineError, Word

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
"""An address of this machine, with the network it is in."""


class Where(Enum):
    """What kind of place it is."""

    ALL = auto()
    SAME_HOST = auto()
    SAME_NET = auto()
    NETWORK = auto()


_KEYWORDS = {"all": Where.ALL, "samehost": Where.SAME_HOST, "samenet": Where.SAME_NET}


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections may come from.

    address, mask: of a network. A mask may have holes, as in PostgreSQL; bits of the address
    outside it do not matter.
    """

    where: Where
    address: Address | None = None
    mask: Address | None = None

    def has(self, peer: Address, own: Iterable[Interface]) -> bool:
        """Whether a peer is there. own: this machine's addresses."""
        match self.where:
            case Where.ALL:
                return True
            case Where.SAME_HOST:
                return any(peer == each.ip for each in own)
            case Where.SAME_NET:
                return any(peer in each.network for each in own)
        if self.address is None or self.mask is None or peer.version != self.address.version:
            return False
        return not (int(peer) ^ int(self.address)) & int(self.mask)


def read_place(word: Word, mask: Word | None) -> Place:
    """Read an address. mask: of the field behind it, where there is one to read.

    Raises UnreadableLineError.
    """
    if not word.quoted and word.text in _KEYWORDS:
        return Place(_KEYWORDS[word.text])
    text, slash, bits = word.text.partition("/")
    address = _read_address(text)
    if not slash:
        if mask is None:
            raise UnreadableLineError(
                f'"{text}" has no mask; write {text}/{address.max_prefixlen} for this address alone'
            )
        return Place(Where.NETWORK, address, _read_mask(mask.text, address))
    try:
        network = ipaddress.ip_network(f"{address}/{_prefix(bits, address)}", strict=False)
    except ValueError:
        raise UnreadableLineError(
            f'"{word.text}" is no network; behind the slash stands a number up to'
            f" {address.max_prefixlen}"
        ) from None
    return Place(Where.NETWORK, address, network.netmask)


def wants_mask(word: Word) -> bool:
    """Whether the mask stands in a field of its own."""
    return not (word.is_keyword(*_KEYWORDS) or "/" in word.text)


def _prefix(bits: str, address: Address) -> int:
    if not bits.isascii() or not bits.isdigit() or int(bits) > address.max_prefixlen:
        raise ValueError
    return int(bits)


def _read_address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or getattr(address, "scope_id", None) is not None:
        # Who answers for a name may change it, and would decide who comes in.
        raise UnreadableLineError(
            f'"{text}" is no IP address; names of hosts are not looked up during a login,'
            " write the addresses"
        )
    return address


def _read_mask(text: str, address: Address) -> Address:
    try:
        mask = ipaddress.ip_address(text)
    except ValueError:
        raise UnreadableLineError(
            f'"{text}" is no mask for the address before it; write both as ADDRESS/BITS'
        ) from None
    if mask.version != address.version:
        raise UnreadableLineError(f"the mask {mask} does not go with the address {address}")
    return mask
