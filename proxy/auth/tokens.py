"""Is a token what it claims to be, and whom does it name? JSON Web Tokens of one issuer.

Keys come in, an identity or a `TokenError` goes out; where keys come from is not known here. The
signature and the times are PyJWT's to check (it reads the wall clock itself). Signatures are
asymmetric only, and a key serves the algorithms of its own kind alone: otherwise a public key could
pass for a shared secret.

Source: RFC 7519 (JWT), 7517 (JWK), 8725 (best current practices), 9068 (access tokens).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

KIND_OF = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA",
    "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC",
    "EdDSA": "OKP",
}  # fmt: skip
"""Algorithms there are, and the kind of key (`kty`) each takes."""

_MOST_KEYS = 100
_WELL_KNOWN = "/.well-known/"


class TokenError(Exception):
    """A token that will not do. Its text is for the log, and has nothing of the token but names."""


class UnknownKeyError(TokenError):
    """The key that the token names is not among those known; there may be newer ones."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must be. issuer: its `iss`. audience: one of its `aud`.

    scopes: all of them must be granted. claim: names the user. leeway_s: for clocks that differ.
    """

    issuer: str
    audience: str
    scopes: frozenset[str]
    algorithms: frozenset[str]
    claim: str
    leeway_s: float


class KeySet:
    """The public keys of an issuer, by their `kid`. Does not change.

    jwks: a JWK Set as it was read. Raises TokenError when it is none. Keys that cannot sign tokens
    are left out, secret ones too.
    """

    __slots__ = ("_by_id", "_made")

    def __init__(self, jwks: object) -> None:
        keys = jwks.get("keys") if isinstance(jwks, dict) else None
        if not isinstance(keys, list):
            raise TokenError("it is no set of keys (JWKS)")
        if len(keys) > _MOST_KEYS:
            raise TokenError(f"it has more than {_MOST_KEYS} keys")
        usable = [key for key in keys if _may_sign(key)]
        if not usable:
            raise TokenError("it has no key for signatures")
        self._by_id: dict[str | None, Mapping[str, Any]] = {key.get("kid"): key for key in usable}
        if len(usable) == 1:
            # A token need not name the one key there is.
            self._by_id.setdefault(None, usable[0])
        self._made: dict[tuple[str | None, str], Any] = {}

    def find(self, kid: str | None, algorithm: str) -> Any:
        """Give the key for an algorithm. Raises UnknownKeyError, TokenError."""
        made = self._made.get((kid, algorithm))
        if made is not None:
            return made
        found = self._by_id.get(kid)
        if found is None:
            raise UnknownKeyError("it is signed with a key that the issuer does not publish")
        if found["kty"] != KIND_OF[algorithm] or found.get("alg", algorithm) != algorithm:
            raise TokenError("its algorithm does not go with the key it names")
        try:
            made = jwt.PyJWK(dict(found), algorithm)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):
            raise TokenError("the key it names cannot be used") from None
        self._made[kid, algorithm] = made
        return made


def check_token(token: str, keys: KeySet, rules: TokenRules) -> str:
    """Give the identity a token proves. Raises TokenError, UnknownKeyError."""
    kid, algorithm = _read_header(token, rules)
    key = keys.find(kid, algorithm)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=rules.leeway_s,
            options={"require": ["exp", "iss", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise TokenError(_REASONS.get(type(error), "it is malformed")) from None
    missing = rules.scopes - _scopes_of(claims)
    if missing:
        raise TokenError(f"it does not grant {' '.join(sorted(missing))}")
    identity = claims.get(rules.claim)
    if not isinstance(identity, str) or not identity or "\0" in identity:
        raise TokenError(f"its claim {rules.claim} names nobody")
    return identity


def discovery_url(issuer: str) -> str:
    """Where an issuer's configuration is: as given when it is a well-known URL already."""
    if _WELL_KNOWN in issuer:
        return issuer
    return issuer.rstrip("/") + _WELL_KNOWN + "openid-configuration"


def signpost_url(issuer: str) -> str:
    """The same for clients: libpq takes what stands before `/.well-known/` for the issuer's name.

    So a slash that ends the name stays, as in PostgreSQL (auth-oauth.c).
    """
    return issuer if _WELL_KNOWN in issuer else f"{issuer}{_WELL_KNOWN}openid-configuration"


def issuer_of(issuer: str) -> str:
    """The issuer as its tokens name it, of what may be the URL of its configuration.

    Source: OpenID Connect Discovery 1.0, section 4.1; RFC 8414, section 3.1, where the issuer's
    path comes behind the well-known one.
    """
    before, well_known, behind = issuer.partition(_WELL_KNOWN)
    if not well_known:
        return issuer
    _, slash, path = behind.partition("/")
    return before + slash + path


def _read_header(token: str, rules: TokenRules) -> tuple[str | None, str]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):  # a stranger may nest without end
        raise TokenError("it is no JSON Web Token") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in rules.algorithms or algorithm not in KIND_OF:
        raise TokenError("it is signed by an algorithm that is not allowed")
    return kid, algorithm


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """Scopes granted: a text separated by spaces (RFC 9068), or a list as some issuers write."""
    granted: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            granted.update(value.split())
        elif isinstance(value, list):
            granted.update(each for each in value if isinstance(each, str))
    return granted


def _may_sign(key: object) -> bool:
    return (
        isinstance(key, dict)
        and key.get("kty") in set(KIND_OF.values())
        and key.get("use", "sig") == "sig"
        and isinstance(key.get("kid", ""), str)
    )


# The most special of PyJWT's errors -> our words: its own quote parts of the token.
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.InvalidIssuedAtError: "it was issued at no time",
    jwt.MissingRequiredClaimError: "it lacks exp, iss or aud",
}
