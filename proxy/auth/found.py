"""The secrets that a query found, and the names it did not know: what is kept of its answers.

An answer is fresh for a while, then it is to be asked for again; until a new one has come the old
one stands, so that users who are known log in while the database cannot be asked. A login that was
refused makes its answer doubtful: the password may have been changed since. Pure; called by
`proxy.client.directory`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from proxy.auth.decoys import ITERATIONS, SALT_BYTES
from proxy.auth.secrets import KEY_BYTES, ScramVerifier, Secret, SecretError, parse_secret

# Wrong passwords can make us ask about one name this often, and not more.
DOUBT_AFTER_S = 1.0

USUAL_SECRET = ScramVerifier(ITERATIONS, bytes(SALT_BYTES), bytes(KEY_BYTES), bytes(KEY_BYTES))
"""In form like what PostgreSQL keeps, for decoys to be made after; nobody's."""


@dataclass(frozen=True, slots=True)
class Found:
    """One answer. secret: None for a name that is not known, or may not log in.

    asked_s: when the question was put. doubted: a login by it was refused.
    """

    secret: Secret | None
    asked_s: float
    doubted: bool = False


class FoundSecrets:
    """Answers by name, the one longest unused leaves at the limit.

    ttl_s: how long an answer is fresh; with 0 every login asks.
    limit: names known, and as many unknown ones: guesses push out nobody who exists.
    """

    __slots__ = ("_known", "_limit", "_ttl_s", "_unknown")

    def __init__(self, ttl_s: float, limit: int = 10_000) -> None:
        self._ttl_s = ttl_s
        self._limit = limit
        self._known: dict[Hashable, Found] = {}
        self._unknown: dict[Hashable, Found] = {}

    def find(self, who: Hashable) -> Found | None:
        """Give what is kept about somebody, fresh or not, or None."""
        for kept in (self._known, self._unknown):
            found = kept.pop(who, None)
            if found is not None:
                kept[who] = found  # now the most recently used
                return found
        return None

    def is_fresh(self, found: Found, now_s: float) -> bool:
        """Whether an answer may be used without asking again."""
        age_s = now_s - found.asked_s
        return age_s < self._ttl_s and not (found.doubted and age_s >= DOUBT_AFTER_S)

    def keep(self, who: Hashable, secret: Secret | None, asked_s: float) -> None:
        """Keep an answer in place of an older one."""
        self._known.pop(who, None)
        self._unknown.pop(who, None)
        kept = self._unknown if secret is None else self._known
        kept[who] = Found(secret, asked_s)
        if len(kept) > self._limit:
            kept.pop(next(iter(kept)))

    def doubt(self, who: Hashable) -> None:
        """Somebody's login was refused: ask again before the next one, if that is due."""
        for kept in (self._known, self._unknown):
            if who in kept:
                kept[who] = replace(kept[who], doubted=True)


def read_found(user: str, rows: Sequence[Sequence[object]]) -> Secret | None:
    """Read an answer: no row, or one of name and secret. None where nobody can log in by it.

    Raises SecretError when it makes no sense; its text does not quote what was found.
    """
    if not rows:
        return None
    if len(rows) > 1 or len(rows[0]) != 2:
        raise SecretError(
            f"it gave {len(rows)} rows of {len(rows[0])} columns, and one of two is expected"
        )
    name, secret = rows[0]
    if name != user:
        raise SecretError("its first column is not the name that was asked for")
    if secret is None or secret == "":
        return None
    if not isinstance(secret, str):
        raise SecretError("its second column is no text")
    return parse_secret(secret)
