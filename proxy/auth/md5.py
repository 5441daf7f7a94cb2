"""PostgreSQL's md5 login: a hash that stands for the password, and an answer to a salt.

Weak, and here because servers and clients still use it. Both functions work from the plain
password or from the stored hash, which is as good as the password to whoever has it.

Source: PostgreSQL documentation, "Message Flow", AuthenticationMD5Password.
"""

import hashlib
import hmac

from proxy.auth.secrets import Md5Secret, PlainSecret


def hash_password(password: str, user: str) -> Md5Secret:
    """Give the stored form: `md5`, then md5(password, user) in hexadecimal."""
    return Md5Secret("md5" + _md5_hex((password + user).encode("utf-8", "surrogateescape")))


def answer_salt(secret: PlainSecret | Md5Secret, user: str, salt: bytes) -> bytes:
    """Give what proves the password for this salt (4 bytes): `md5` and 32 hexadecimal digits."""
    stored = secret if isinstance(secret, Md5Secret) else hash_password(secret.password, user)
    return b"md5" + _md5_hex(stored.text[3:].encode("ascii") + salt).encode("ascii")


def is_right_answer(secret: PlainSecret | Md5Secret, user: str, salt: bytes, answer: bytes) -> bool:
    """Tell whether an answer proves the password, in time that does not depend on where it errs."""
    return hmac.compare_digest(answer_salt(secret, user, salt), answer)


def _md5_hex(raw: bytes) -> str:
    # usedforsecurity=False lets it run where policy (FIPS) forbids md5 for security.
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()
