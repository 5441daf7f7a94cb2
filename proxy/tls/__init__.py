"""How are bytes kept from others, and who is at the far end? TLS on both sides.

`offer_to_clients` and `context_for_servers` make the contexts from the configuration, `Renewed`
makes them again when their files change, `shake_hands` is the handshake on a link, and `TlsFacts`
is what a finished one says about the peer. Afterwards the relay reads and writes through the
session.
"""

from proxy.tls.contexts import ALPN, Offer, context_for_servers, offer_to_clients
from proxy.tls.endpoint import hash_endpoint
from proxy.tls.facts import TlsFacts, read_facts
from proxy.tls.handshake import FIRST_BYTE, HandshakeFailed, shake_hands
from proxy.tls.renewed import Renewed

__all__ = [
    "ALPN",
    "FIRST_BYTE",
    "HandshakeFailed",
    "Offer",
    "Renewed",
    "TlsFacts",
    "context_for_servers",
    "hash_endpoint",
    "offer_to_clients",
    "read_facts",
    "shake_hands",
]
