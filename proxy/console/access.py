"""Who may look: HTTP's basic authentication, or a bearer token. Pure.

Sources: RFC 7617 (basic), RFC 6750 (bearer).
"""

import base64
import binascii
import hmac
from collections.abc import Iterable

from proxy.config import HttpAuth


def is_allowed(auth: HttpAuth | None, authorization: str) -> bool:
    """Whether a request with this Authorization header may see what is not for everybody.

    authorization: as a stranger sent it, "" when there was none. Takes as long for a wrong name as
    for a wrong password.
    """
    if auth is None:
        return True
    scheme, _, credentials = authorization.strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return bool(auth.token) and _same(credentials, str(auth.token))
    if scheme.lower() != "basic":
        return False
    user, colon, password = _decoded(credentials).partition(":")
    if not colon:
        return False
    matches = []
    if auth.user is not None and auth.password is not None:
        matches.append(_all([_same(user, auth.user), _same(password, str(auth.password))]))
    if auth.token:
        # A browser asks for a name and a password, and cannot send a bearer token by itself.
        matches.append(_same(password, str(auth.token)))
    return any(matches)


def challenge(auth: HttpAuth) -> str:
    """What a 401 asks for."""
    return 'Basic realm="pgweir", charset="UTF-8"' if auth.user else 'Bearer realm="pgweir"'


def _decoded(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(
        given.encode("utf-8", "surrogateescape"), right.encode("utf-8", "surrogateescape")
    )


def _all(answers: Iterable[bool]) -> bool:
    """As `all`, but every answer has been found by then."""
    return all(list(answers))
