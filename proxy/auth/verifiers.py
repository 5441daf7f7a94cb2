"""What a login is measured against: the user's own secret, or a decoy.

A plain password is turned into a SCRAM verifier once and the verifier kept, so that a login costs
no PBKDF2. `prepare` does so when users are loaded: a first login that took a millisecond longer
than a stranger's would tell that the user exists.

For the same reason a decoy is made at every login and then mostly thrown away.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import replace

from proxy.auth.decoys import ITERATIONS, Decoys
from proxy.auth.keys import DerivedKeys, derive_keys
from proxy.auth.secrets import PlainSecret, ScramVerifier, Secret


class Verifiers:
    """Verifiers of plain passwords, and decoys for everybody else. Lives as long as the process.

    process_secret: as in `Decoys`.
    limit: verifiers kept, the one longest unused leaves; grows to hold all users learned.
    `prepare` may run in another thread while logins go on: each change is one dictionary store.
    """

    __slots__ = ("_decoys", "_derived", "_limit", "_proved")

    def __init__(self, process_secret: bytes, limit: int = 10_000) -> None:
        self._decoys = Decoys(process_secret)
        self._limit = limit
        self._derived: dict[str, tuple[PlainSecret, ScramVerifier]] = {}
        self._proved = DerivedKeys()

    def learn(self, secrets: Collection[Secret]) -> None:
        """Take note of all known users' secrets: strangers will be asked as they are."""
        self._decoys.learn(secrets)
        self._limit = max(self._limit, 2 * len(secrets))

    def prepare(self, user: str, secret: Secret) -> bool:
        """Derive the verifier of a plain password unless it is kept already. Costs one PBKDF2.

        Result: whether one was derived.
        """
        if not isinstance(secret, PlainSecret) or not secret.password:
            return False
        if self._find(user, secret) is not None:
            return False
        self._derive(user, secret)
        return True

    def secret_for(self, user: str, known: Secret | None) -> tuple[Secret, bool]:
        """Give the secret to hold a password or md5 answer against, and whether it is genuine.

        known: the user's secret, or None when there is no such user.
        """
        decoy = self._decoys.secret_for(user)
        if known is None or (isinstance(known, PlainSecret) and not known.password):
            return decoy, False
        return known, True

    def verifier_for(self, user: str, known: Secret | None) -> tuple[ScramVerifier, bool]:
        """Give the verifier for a SCRAM login, and whether it is genuine.

        A user with an md5 hash is to SCRAM one who does not exist. A plain password that was not
        prepared costs its PBKDF2 here, once.
        """
        decoy = self._decoys.verifier_for(user)
        if isinstance(known, ScramVerifier):
            return known, True
        if isinstance(known, PlainSecret) and known.password:
            kept = self._find(user, known)
            return (kept if kept is not None else self._derive(user, known)), True
        return decoy, False

    def is_password_of(self, verifier: ScramVerifier, genuine: bool, password: str) -> bool:
        """Tell whether a password sent in clear is the one behind a verifier, or the one before.

        Costs one PBKDF2, except for a password that was right before. Never so for a decoy.
        """
        salt, iterations = verifier.salt, verifier.iterations
        kept = self._proved.find(password, salt, iterations)
        keys = kept if kept is not None else derive_keys(password, salt, iterations)
        stored_key = hashlib.sha256(keys.client_key).digest()
        is_right = hmac.compare_digest(verifier.stored_key, stored_key)
        # Compared in any case: time does not tell who is changing their password.
        was_right = hmac.compare_digest((verifier.old or verifier).stored_key, stored_key)
        if not ((is_right or was_right) and genuine):
            return False
        if kept is None:
            self._proved.keep(password, salt, iterations, keys)
        return True

    def _find(self, user: str, secret: PlainSecret) -> ScramVerifier | None:
        kept = self._derived.get(user)
        if kept is None or kept[0] != secret:
            return None
        self._derived[user] = self._derived.pop(user, kept)  # now the most recently used
        return kept[1]

    def _derive(self, user: str, secret: PlainSecret) -> ScramVerifier:
        salt = self._decoys.salt_for(user)
        verifier = derive_keys(secret.password, salt, ITERATIONS).verifier(salt, ITERATIONS)
        if secret.old is not None:
            old = derive_keys(secret.old.password, salt, ITERATIONS).verifier(salt, ITERATIONS)
            verifier = replace(verifier, old=old)
        self._derived[user] = (secret, verifier)
        if len(self._derived) > self._limit:
            self._derived.pop(next(iter(self._derived)))
        return verifier
