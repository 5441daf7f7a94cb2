"""The secrets of users who do not exist.

Somebody who asks for a user that does not exist, or that cannot log in by the method in force, must
see the same conversation, wait the same time and read the same refusal as with a wrong password. So
every name has a decoy, computed from the name and a secret of the process:

- its salt never changes while the process secret lives, and is the very salt that a verifier made
  from a plain password has; so even a password that is set or removed does not show;
- its form (plain, md5, or a verifier with so many iterations and such a salt) is drawn, by the
  name, from the forms that the known users have: a stranger does not stand out by being asked in
  another way.

Nobody can log in against a decoy: the callers refuse even a right answer.

Source: PostgreSQL, src/backend/libpq/auth-scram.c (mock authentication).
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from proxy.auth.secrets import KEY_BYTES, Md5Secret, PlainSecret, ScramVerifier, Secret, encode_text
from proxy.errors import ProxyBug

# PostgreSQL's defaults: a verifier we derive looks like one that it has stored.
ITERATIONS = 4096
SALT_BYTES = 16

_PICK_BYTES = 8
_HEAD_BYTES = _PICK_BYTES + 2 * KEY_BYTES

# How a secret shows to a stranger under SCRAM: iterations, and bytes of salt.
_Challenge = tuple[int, int]
_Drawn = TypeVar("_Drawn")
_DEFAULT: _Challenge = (ITERATIONS, SALT_BYTES)


class Decoys:
    """Decoys by user name.

    process_secret: 16 bytes or more, random, never shown. Processes that serve one address must
    share it, or a stranger's salt would change with the process that answers.
    """

    __slots__ = ("_challenges", "_forms", "_process_secret", "_stream_bytes")

    def __init__(self, process_secret: bytes) -> None:
        if len(process_secret) < 16:
            raise ProxyBug("the secret behind decoys is shorter than 16 bytes")
        self._process_secret = process_secret
        self.learn(())

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Take the forms of all known users, in place of those learned before."""
        known = list(secrets)
        forms = [_form_of(secret) for secret in known] or [(PlainSecret, _DEFAULT)]
        # Sorted, so that the order in which users are listed changes nobody's decoy.
        forms.sort(key=lambda form: (form[0].__name__, form[1]))
        self._forms = tuple(forms)
        challenges = [challenge for kind, challenge in forms if kind is not Md5Secret]
        self._challenges = tuple(sorted(challenges)) or (_DEFAULT,)
        longest_salt = max(salt_bytes for _, salt_bytes in self._challenges)
        self._stream_bytes = _HEAD_BYTES + max(longest_salt, SALT_BYTES)

    def salt_for(self, user: str) -> bytes:
        """Give the salt that belongs to a name, 16 bytes."""
        return self._stream(user)[_HEAD_BYTES : _HEAD_BYTES + SALT_BYTES]

    def verifier_for(self, user: str) -> ScramVerifier:
        """Make the decoy that SCRAM measures a stranger against."""
        stream = self._stream(user)
        return _cut_verifier(stream, _draw(self._challenges, stream))

    def secret_for(self, user: str) -> Secret:
        """Make the decoy that a password or an md5 answer is held against."""
        stream = self._stream(user)
        kind, challenge = _draw(self._forms, stream)
        if kind is ScramVerifier:
            return _cut_verifier(stream, challenge)
        unguessable = stream[_PICK_BYTES : _PICK_BYTES + 16].hex()
        return PlainSecret(unguessable) if kind is PlainSecret else Md5Secret("md5" + unguessable)

    def _stream(self, user: str) -> bytes:
        name = encode_text(user)
        if name is None:
            raise ProxyBug("a user name holds a lone surrogate; names come decoded from the wire")
        # SHAKE, because a prefix as key is safe with it and one call gives as much as is asked for.
        return hashlib.shake_256(self._process_secret + name).digest(self._stream_bytes)


def _form_of(secret: Secret) -> tuple[type[Secret], _Challenge]:
    if isinstance(secret, ScramVerifier):
        return ScramVerifier, (secret.iterations, len(secret.salt))
    return type(secret), _DEFAULT


def _draw(forms: Sequence[_Drawn], stream: bytes) -> _Drawn:
    return forms[int.from_bytes(stream[:_PICK_BYTES]) % len(forms)]


def _cut_verifier(stream: bytes, challenge: _Challenge) -> ScramVerifier:
    iterations, salt_bytes = challenge
    return ScramVerifier(
        iterations,
        stream[_HEAD_BYTES : _HEAD_BYTES + salt_bytes],
        stream[_PICK_BYTES : _PICK_BYTES + KEY_BYTES],
        stream[_PICK_BYTES + KEY_BYTES : _HEAD_BYTES],
    )
