"""The hash of a certificate for channel binding, against another reader of certificates."""

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from proxy.tls import hash_endpoint

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def certificate(key: Any, algorithm: Any, **more: Any) -> bytes:
    """A certificate signed with this key and hash, DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, algorithm, **more)
        .public_bytes(serialization.Encoding.DER)
    )


def pss(algorithm: Any) -> dict[str, Any]:
    return {"rsa_padding": padding.PSS(mgf=padding.MGF1(algorithm), salt_length=32)}


# Key, hash of the signature, what else -> hash of the binding (RFC 5929).
SIGNATURES = [
    (RSA, hashes.SHA224(), {}, "sha224"),
    (RSA, hashes.SHA256(), {}, "sha256"),
    (RSA, hashes.SHA384(), {}, "sha384"),
    (RSA, hashes.SHA512(), {}, "sha512"),
    (EC, hashes.SHA224(), {}, "sha224"),
    (EC, hashes.SHA256(), {}, "sha256"),
    (EC, hashes.SHA384(), {}, "sha384"),
    (EC, hashes.SHA512(), {}, "sha512"),
    (dsa.generate_private_key(2048), hashes.SHA256(), {}, "sha256"),
    (RSA, hashes.SHA256(), pss(hashes.SHA256()), "sha256"),
    (RSA, hashes.SHA384(), pss(hashes.SHA384()), "sha384"),
    (RSA, hashes.SHA512(), pss(hashes.SHA512()), "sha512"),
]


@pytest.mark.parametrize(("key", "algorithm", "more", "name"), SIGNATURES)
def test_the_hash_is_that_of_the_signature(
    key: Any, algorithm: Any, more: dict[str, Any], name: str
) -> None:
    der = certificate(key, algorithm, **more)
    read = x509.load_der_x509_certificate(der).signature_hash_algorithm
    assert read is not None and read.name == name
    assert hash_endpoint(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize(
    "old",
    ["06092a864886f70d010105", "06092a864886f70d010104", "06072a8648ce3d0401"],
    ids=["sha1WithRSA", "md5WithRSA", "ecdsa-with-SHA1"],
)
def test_md5_and_sha1_become_sha256(old: str) -> None:
    # No library makes such certificates any more; only the frame around the algorithm is read.
    oid = bytes.fromhex(old)
    algorithm = bytes([0x30, len(oid)]) + oid
    body = b"\x30\x00" + algorithm
    der = bytes([0x30, len(body)]) + body
    assert hash_endpoint(der) == hashlib.sha256(der).digest()


def test_a_signature_without_a_hash_has_no_binding() -> None:
    assert hash_endpoint(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


GENUINE = certificate(RSA, hashes.SHA256(), **pss(hashes.SHA256()))


@given(st.binary(max_size=64))
def test_any_bytes_have_a_hash_or_none(octets: bytes) -> None:
    hash_endpoint(octets)


@given(st.integers(0, len(GENUINE) - 1), st.integers(0, 255))
def test_any_certificate_has_a_hash_or_none(at: int, octet: int) -> None:
    hash_endpoint(GENUINE[:at] + bytes([octet]) + GENUINE[at + 1 :])
    hash_endpoint(GENUINE[:at])
