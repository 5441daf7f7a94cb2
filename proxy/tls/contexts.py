"""The contexts: what clients are offered, and what is asked of servers."""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.config import ClientTls, ServerTls
from proxy.errors import ProxyBug
from proxy.tls.endpoint import hash_endpoint

ALPN = "postgresql"
"""The protocol's name in TLS. Source: IANA, "TLS Application-Layer Protocol Negotiation"."""


@dataclass(frozen=True, slots=True)
class Offer:
    """TLS as clients see it.

    endpoint: what they may bind their SCRAM login to, None where that is undefined.
    """

    context: ssl.SSLContext
    endpoint: bytes | None


def offer_to_clients(tls: ClientTls, *, ask_for_certificate: bool) -> Offer:
    """Make what clients see; the configuration names a certificate and its key.

    ask_for_certificate: below `verify-ca`, let a client that has a certificate show it, because a
    rule may want one; it is verified then, and none is demanded. The other modes do not look.
    Raises OSError or ssl.SSLError for files that are no use.
    """
    if tls.cert is None or tls.key is None:
        raise ProxyBug("TLS is to be offered without a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _bound(context, tls)
    # A session ticket per connection costs as much as it saves to clients that never resume.
    context.num_tickets = 0
    _load_pair(context, tls.cert, tls.key)
    if tls.mode in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_REQUIRED
    elif ask_for_certificate and tls.ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    if context.verify_mode != ssl.CERT_NONE and tls.ca is not None:
        context.load_verify_locations(tls.ca)
    return Offer(context, _own_endpoint(context))


def context_for_servers(tls: ServerTls) -> ssl.SSLContext:
    """Make the context for servers, with libpq's meaning of the mode, from `allow` upwards.

    Raises OSError or ssl.SSLError for files that are no use.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _bound(context, tls)
    context.check_hostname = tls.mode == "verify-full"
    # As in libpq, `require` verifies when there is something to verify against.
    if tls.mode in ("verify-ca", "verify-full") or (tls.mode == "require" and tls.ca is not None):
        context.verify_mode = ssl.CERT_REQUIRED
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        else:
            context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        _load_pair(context, tls.cert, tls.key)
    return context


_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def _bound(context: ssl.SSLContext, tls: ClientTls | ServerTls) -> None:
    """What may be negotiated."""
    context.minimum_version = _VERSIONS[tls.min_version]
    if tls.ciphers is not None:
        context.set_ciphers(tls.ciphers)
    # A stranger could have us do the costly half of handshakes for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    # The empty passphrase keeps OpenSSL from asking for one at the terminal.
    context.load_cert_chain(cert, key, password="")


def _own_endpoint(context: ssl.SSLContext) -> bytes | None:
    """Of the certificate that clients are shown: we look at it as one of them."""
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = looking.wrap_bio(back, there)
    server = context.wrap_bio(there, back, server_side=True)
    for end in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    certificate = client.getpeercert(binary_form=True)
    return None if certificate is None else hash_endpoint(certificate)
