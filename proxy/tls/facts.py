"""What a finished handshake says about the far end. Pure, but for the session it reads."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proxy.errors import PeerError


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a finished handshake says about the connection and its peer.

    version: such as `TLSv1.3`. cipher: OpenSSL's name of it.
    peer_common_name: the first CN of the peer's certificate; None without a certificate that was
    verified, or when it has none. peer_distinguished_name: its whole subject as RFC 2253 writes
    it, as PostgreSQL's `clientname=DN`; None without a certificate that was verified.
    endpoint: the hash of our certificate that a client binds its SCRAM login to
    (`tls-server-end-point`), None where that is undefined.
    """

    version: str
    cipher: str
    peer_common_name: str | None = None
    peer_distinguished_name: str | None = None
    endpoint: bytes | None = None

    @property
    def has_certificate(self) -> bool:
        """Has the peer shown a certificate, signed by an authority we were told to trust?"""
        return self.peer_distinguished_name is not None


def read_facts(session: ssl.SSLObject, endpoint: bytes | None = None) -> TlsFacts:
    """Read what a finished session says.

    Raises PeerError (28000) when the certificate's common name holds a NUL: what reads it as C
    does would take it for another name.
    """
    cipher = session.cipher()
    certificate = session.getpeercert()
    subject = certificate.get("subject") if certificate else None
    common_name = distinguished_name = None
    if subject is not None:
        # Typed by typeshed as loosely as by Python: a tuple of tuples of pairs.
        relative: tuple[tuple[tuple[str, str], ...], ...] = subject  # type: ignore[assignment]
        common_name = _common_name(relative)
        distinguished_name = write_name(relative)
    return TlsFacts(
        version=session.version() or "",
        cipher="" if cipher is None else cipher[0],
        peer_common_name=common_name,
        peer_distinguished_name=distinguished_name,
        endpoint=endpoint,
    )


def _common_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str | None:
    for relative in subject:
        for attribute, value in relative:
            if attribute == "commonName":
                if "\0" in value:
                    raise PeerError(
                        "the common name of the client's certificate holds a NUL", "28000"
                    )
                return value
    return None


# OpenSSL's long names, which Python gives, to the short ones, which people write.
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "domainComponent": "DC",
    "userId": "UID",
    "surname": "SN",
    "givenName": "GN",
    "streetAddress": "street",
}
_SPECIAL = frozenset(b',+"\\<>;')


def write_name(subject: Any) -> str:
    """Write a subject as RFC 2253 does and OpenSSL's XN_FLAG_RFC2253: last part first.

    subject: as in `getpeercert()`, relative names of pairs of attribute and value.
    """
    return ",".join(
        "+".join(
            f"{_SHORT_NAMES.get(attribute, attribute)}={_escape(value)}"
            for attribute, value in reversed(relative)
        )
        for relative in reversed(subject)
    )


def _escape(value: str) -> str:
    octets = value.encode("utf-8", "surrogateescape")
    last = len(octets) - 1
    return "".join(
        f"\\{chr(octet)}"
        if octet in _SPECIAL or (octet == 0x20 and at in (0, last)) or (octet == 0x23 and at == 0)
        else f"\\{octet:02X}"
        if octet < 0x20 or octet > 0x7E
        else chr(octet)
        for at, octet in enumerate(octets)
    )
