"""Tokens, good and forged."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from proxy.auth.tokens import (
    KeySet,
    TokenError,
    TokenRules,
    UnknownKeyError,
    check_token,
    discovery_url,
    issuer_of,
    signpost_url,
)

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = rsa.generate_private_key(65537, 2048)


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    algorithm = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((n for kind, n in algorithm.items() if isinstance(key, kind)), "EdDSA")
    made = json.loads(jwt.get_algorithm_by_name(name).to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


JWKS = {
    "keys": [
        jwk(RSA, "rsa"),
        jwk(EC, "ec", alg="ES256", use="sig"),
        jwk(ED, "ed"),
        jwk(OTHER, "for encryption", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        "no key",
    ]
}
KEYS = KeySet(JWKS)
RULES = TokenRules(
    "https://issuer",
    "pgweir",
    frozenset({"db"}),
    frozenset({"RS256", "PS256", "ES256", "EdDSA"}),
    "sub",
    10.0,
)


def claims(**changes: Any) -> dict[str, Any]:
    """Times are seconds from now."""
    said = {
        "iss": "https://issuer", "aud": "pgweir", "sub": "ann", "scope": "openid db",
        "iat": 0, "exp": 300,
    }  # fmt: skip
    now = int(time.time())
    return {
        key: now + each if key in ("iat", "exp", "nbf") else each
        for key, each in {**said, **changes}.items()
        if each is not None
    }


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)


def part(said: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")],
)
def test_a_good_token_names_its_user(key: Any, algorithm: str, kid: str) -> None:
    assert check_token(token(key, algorithm, kid), KEYS, RULES) == "ann"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", "pgweir"]},
        {"scope": None, "scp": ["db"]},
        {"scope": "db"},
        {"exp": -1},  # within the leeway
        {"nbf": 2},
    ],
)
def test_what_is_good_enough(changes: dict[str, Any]) -> None:
    assert check_token(token(**changes), KEYS, RULES) == "ann"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": -60}, "expired"),
        ({"exp": None}, "lacks"),
        ({"nbf": 600}, "not valid yet"),
        ({"iss": "https://other"}, "another issuer"),
        ({"iss": None}, "lacks"),
        ({"aud": "other"}, "another audience"),
        ({"aud": None}, "lacks"),
        ({"scope": "openid"}, "does not grant db"),
        ({"scope": "dba"}, "does not grant db"),
        ({"scope": None}, "does not grant db"),
        ({"sub": None}, "names nobody"),
        ({"sub": ""}, "names nobody"),
        ({"kid": "unknown"}, "does not publish"),
        ({"kid": None}, "does not publish"),
        ({"key": OTHER}, "signature"),
        ({"algorithm": "RS512"}, "not allowed"),
        ({"key": EC, "algorithm": "ES256"}, "does not go with"),
        ({"key": OTHER, "kid": "for encryption"}, "does not publish"),
    ],
)
def test_a_token_that_will_not_do(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenError, match=reason):
        check_token(token(**changes), KEYS, RULES)


def test_a_token_without_a_signature_is_refused() -> None:
    for algorithm in ("none", "None", ""):
        header = part({"alg": algorithm, "kid": "rsa"})
        with pytest.raises(TokenError):
            check_token(f"{header}.{part(claims())}.", KEYS, RULES)


def test_a_public_key_does_not_pass_for_a_shared_secret() -> None:
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(claims())}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), hashlib.sha256))
    for rules in (
        RULES,
        TokenRules("https://issuer", "pgweir", frozenset(), frozenset({"HS256"}), "sub", 0),
    ):
        with pytest.raises(TokenError, match="not allowed"):
            check_token(f"{signed}.{mac.decode().rstrip('=')}", KEYS, rules)


def test_a_secret_key_among_the_published_is_not_used() -> None:
    forged = jwt.encode(claims(), b"s" * 32, "HS256", headers={"kid": "shared"})
    with pytest.raises(TokenError):
        check_token(forged, KEYS, RULES)


def test_the_only_key_need_not_be_named() -> None:
    keys = KeySet({"keys": [jwk(RSA, "rsa")]})
    assert check_token(token(kid=None), keys, RULES) == "ann"
    with pytest.raises(UnknownKeyError):
        check_token(token(kid="newer"), keys, RULES)


@pytest.mark.parametrize(
    "junk",
    ["", "a", "a.b.c", "...", part([]) + ".x.y", "%" * 100,
     base64.urlsafe_b64encode(b"[" * 40_000).decode().rstrip("=") + ".e30.x",
     base64.urlsafe_b64encode(b'{"alg":' + b"9" * 6000 + b"}").decode().rstrip("=") + ".e30.x",
     part({"alg": ["RS256"], "kid": "rsa"}) + ".e30.x",
     part({"alg": "RS256", "kid": ["rsa"]}) + ".e30.x",
     part({"alg": "RS256", "kid": "rsa", "crit": ["x"]}) + ".e30.x"],
)  # fmt: skip
def test_junk_is_a_token_error_and_nothing_else(junk: str) -> None:
    with pytest.raises(TokenError):
        check_token(junk, KEYS, RULES)


@pytest.mark.parametrize(
    "jwks", [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct", "k": "x"}]},
             {"keys": [jwk(RSA, None)] * 101}]
)  # fmt: skip
def test_what_is_no_key_set_is_refused(jwks: Any) -> None:
    with pytest.raises(TokenError):
        KeySet(jwks)


@pytest.mark.parametrize(
    ("given", "url", "issuer"),
    [
        ("https://i", "https://i/.well-known/openid-configuration", "https://i"),
        ("https://i/realm/", "https://i/realm/.well-known/openid-configuration", "https://i/realm/"),
        (
            "https://i/.well-known/oauth-authorization-server/realm",
            "https://i/.well-known/oauth-authorization-server/realm",
            "https://i/realm",
        ),
        (
            "https://i/realm/.well-known/openid-configuration",
            "https://i/realm/.well-known/openid-configuration",
            "https://i/realm",
        ),
    ],
)  # fmt: skip
def test_where_the_issuers_configuration_is(given: str, url: str, issuer: str) -> None:
    assert (discovery_url(given), issuer_of(given)) == (url, issuer)


def test_a_client_is_told_the_issuers_name_to_the_last_slash() -> None:
    assert signpost_url("https://i/") == "https://i//.well-known/openid-configuration"
    assert signpost_url("https://i") == discovery_url("https://i")
    assert signpost_url("https://i/.well-known/x") == "https://i/.well-known/x"
