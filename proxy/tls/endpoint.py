"""The hash of a certificate that `tls-server-end-point` binds a SCRAM login to. Pure.

Only the certificate's signature algorithm is read: three steps into its DER, which OpenSSL has
parsed before we see it.
Source: RFC 5929, section 4.1; RFC 5280, section 4.1; RFC 8017, appendix A.2.3 (RSASSA-PSS).
"""

import hashlib

_SEQUENCE, _OID, _FIRST_PARAMETER = 0x30, 0x06, 0xA0

_RSASSA_PSS = "1.2.840.113549.1.1.10"

# RFC 5929: MD5 and SHA-1 are replaced by SHA-256, all else is taken as it is.
_HASH_OF_SIGNATURE = {
    "1.2.840.113549.1.1.4": "sha256",  # md5WithRSAEncryption
    "1.2.840.113549.1.1.5": "sha256",  # sha1WithRSAEncryption
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.10045.4.1": "sha256",  # ecdsa-with-SHA1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "1.2.840.10040.4.3": "sha256",  # dsa-with-sha1
    "2.16.840.1.101.3.4.3.1": "sha224",  # dsa-with-sha224
    "2.16.840.1.101.3.4.3.2": "sha256",
    "2.16.840.1.101.3.4.3.3": "sha384",
    "2.16.840.1.101.3.4.3.4": "sha512",
}
_HASHES = {
    "1.3.14.3.2.26": "sha256",  # sha1
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


def hash_endpoint(certificate: bytes) -> bytes | None:
    """Hash a certificate for `tls-server-end-point`.

    certificate: DER. Result: None where the hash is undefined: the signature uses none of its own
    (Ed25519), or one we do not know.
    """
    try:
        name = _name_hash(certificate)
    except ValueError:
        return None
    return None if name is None else hashlib.new(name, certificate).digest()


def _name_hash(certificate: bytes) -> str | None:
    whole = _read(certificate, _SEQUENCE)[0]
    _, behind = _read(whole, _SEQUENCE)  # TBSCertificate
    algorithm, _ = _read(behind, _SEQUENCE)
    oid, parameters = _read_oid(algorithm)
    if oid != _RSASSA_PSS:
        return _HASH_OF_SIGNATURE.get(oid)
    listed, _ = _read(parameters, _SEQUENCE)
    if not listed or listed[0] != _FIRST_PARAMETER:
        return "sha256"  # the default, SHA-1
    hashing, _ = _read(_read(listed, _FIRST_PARAMETER)[0], _SEQUENCE)
    return _HASHES.get(_read_oid(hashing)[0])


def _read(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which must have this tag, and what follows it."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("not the element expected here")
    start, length = 2, der[1]
    if length >= 0x80:
        start += length - 0x80
        if not 0x80 < length <= 0x84:
            raise ValueError("not a length DER has for what fits into memory")
        length = int.from_bytes(der[2:start])
    if len(der) < start + length:
        raise ValueError("cut off")
    return der[start : start + length], der[start + length :]


def _read_oid(der: bytes) -> tuple[str, bytes]:
    """An object identifier in dotted form, and what follows it."""
    content, rest = _read(der, _OID)
    arcs, arc = [], 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if octet < 0x80:
            arcs.append(arc)
            arc = 0
    if not arcs:
        raise ValueError("an empty object identifier")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:]))), rest
