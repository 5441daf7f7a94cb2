"""SCRAM-SHA-256, both roles: we check a client, and we log in to a server.

The roles are RFC 5802's. `ScramServer` works from a verifier and needs no PBKDF2; after a right
proof it knows the client's keys, which can log in to servers that share the verifier. `ScramClient`
works from a password or from such keys, and trusts nothing the server says: its limits are in
`scram_messages`, and without the server's own signature there is no login.

Over TLS a login can be bound to the server's certificate: what the client has seen of it is part of
what it signs, so that nobody in between can pass a login on. `endpoint` is that certificate's hash
(`tls-server-end-point`, RFC 5929), handed in by who knows the connection.

Source: RFC 5802, sections 3, 5 and 6; RFC 7677; PostgreSQL documentation, "SASL Authentication".
"""

import hashlib
import hmac
from collections.abc import Callable

from proxy.auth.keys import DerivedKeys, ScramKeys, derive_keys
from proxy.auth.scram_messages import (
    ClientFirst,
    encode_base64,
    read_client_final,
    read_client_first,
    read_server_final,
    read_server_first,
)
from proxy.auth.secrets import PlainSecret, ScramVerifier
from proxy.errors import PeerError, ProxyBug

MECHANISM = b"SCRAM-SHA-256"
BOUND_MECHANISM = b"SCRAM-SHA-256-PLUS"


def make_nonce(random_bytes: Callable[[int], bytes]) -> bytes:
    """Give a fresh half of a nonce: 24 printable characters from 18 random bytes, as PostgreSQL."""
    return encode_base64(random_bytes(18))


def _sign(key: bytes, auth_message: bytes) -> bytes:
    return hmac.digest(key, auth_message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


class ScramServer:
    """Check one client against a verifier.

    genuine: False for a verifier made up for somebody who cannot log in; then every step is done
    as for a real one, and the answer is no.
    nonce: our half, from `make_nonce`.
    endpoint: the hash of the certificate we showed; None where binding is not offered.
    keys: the client's keys, once its proof was right.
    """

    __slots__ = (
        "_bare",
        "_binding",
        "_endpoint",
        "_first",
        "_genuine",
        "_is_bound",
        "_nonce",
        "_verifier",
        "keys",
    )

    def __init__(
        self,
        verifier: ScramVerifier,
        genuine: bool,
        nonce: bytes,
        endpoint: bytes | None = None,
    ) -> None:
        self._verifier = verifier
        self._genuine = genuine
        self._nonce = nonce
        self._endpoint = endpoint
        self._is_bound = False
        self._bare = self._binding = self._first = b""
        self.keys: ScramKeys | None = None

    def challenge(self, client_first: bytes, mechanism: bytes = MECHANISM) -> bytes:
        """Answer client-first-message with server-first-message.

        mechanism: what the client selected. Raises PeerError, with 28000 when the client has not
        seen that we offer binding: somebody has taken it out of the offer.
        """
        first = read_client_first(client_first)
        self._is_bound = mechanism == BOUND_MECHANISM
        _check_flag(first, self._is_bound, self._endpoint is not None)
        data = self._endpoint if self._is_bound and self._endpoint is not None else b""
        self._binding = encode_base64(first.gs2_header + data)
        self._bare = first.bare
        self._nonce = first.nonce + self._nonce
        verifier = self._verifier
        self._first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            encode_base64(verifier.salt),
            verifier.iterations,
        )
        return self._first

    def check(self, client_final: bytes) -> bytes | None:
        """Give server-final-message when the proof is right, None when it is wrong.

        Raises PeerError when the message is malformed or belongs to another exchange, with 28000
        when the client has seen another certificate than ours.
        """
        final = read_client_final(client_final)
        if not hmac.compare_digest(final.binding, self._binding):
            if self._is_bound:
                raise PeerError(
                    "SCRAM channel binding check failed: the client has seen another certificate",
                    "28000",
                )
            raise PeerError(
                "the channel-binding attribute of the SCRAM client-final-message"
                " is not that of the client-first-message"
            )
        if not hmac.compare_digest(final.nonce, self._nonce):
            raise PeerError("the nonce in the SCRAM client-final-message is not that of this login")
        auth_message = b"%b,%b,%b" % (self._bare, self._first, final.without_proof)
        proved: tuple[ScramVerifier, bytes] | None = None
        # Always two: time must not tell who is changing their password.
        for verifier in (self._verifier.old or self._verifier, self._verifier):
            client_key = _xor(final.proof, _sign(verifier.stored_key, auth_message))
            if hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
                proved = verifier, client_key
        # Only here, after all the work: time must not tell a made-up verifier from a wrong proof.
        if proved is None or not self._genuine:
            return None
        verifier, client_key = proved
        self.keys = ScramKeys(client_key, verifier.server_key)
        return b"v=" + encode_base64(_sign(verifier.server_key, auth_message))


def _check_flag(first: ClientFirst, is_bound: bool, is_offered: bool) -> None:
    """Compare what the client says of binding with what it selected and with what we offered."""
    if is_bound and first.flag != b"p":
        raise PeerError("the client selected SCRAM-SHA-256-PLUS and sent no channel binding")
    if first.flag == b"p" and not is_bound:
        raise PeerError("the client binds a channel and selected SCRAM-SHA-256 without binding")
    if first.flag == b"y" and is_offered:
        raise PeerError(
            "the client supports SCRAM channel binding and thinks the server does not, which it"
            " does: somebody in between has taken it out of the offer",
            "28000",
        )


class ScramClient:
    """Log in to one server.

    credential: a password, or keys that a client proved to us.
    derived: where keys derived from a password are kept.
    nonce: our half, from `make_nonce`.
    gs2_flag: `n` we cannot bind, `y` we can and the server did not offer to, `p=…` we do.
    endpoint: the hash of the certificate we saw, when we bind.
    user: sent as `n=`; PostgreSQL ignores it and libpq leaves it empty, as do we by default.
    is_verified: whether the server has proved that it knows our verifier.
    """

    __slots__ = (
        "_bare",
        "_credential",
        "_derived",
        "_endpoint",
        "_fresh",
        "_gs2_header",
        "_nonce",
        "_server_signature",
        "is_verified",
    )

    def __init__(
        self,
        credential: PlainSecret | ScramKeys,
        derived: DerivedKeys,
        nonce: bytes,
        user: str = "",
        *,
        gs2_flag: bytes = b"n",
        endpoint: bytes = b"",
    ) -> None:
        self._credential = credential
        self._derived = derived
        self._nonce = nonce
        self._gs2_header = gs2_flag + b",,"
        self._endpoint = endpoint
        name = user.replace("=", "=3D").replace(",", "=2C").encode("utf-8", "surrogateescape")
        self._bare = b"n=%b,r=%b" % (name, nonce)
        self._server_signature = b""
        # Keys derived in this login, kept only when the server has proved itself.
        self._fresh: tuple[str, bytes, int, ScramKeys] | None = None
        self.is_verified = False

    def first(self) -> bytes:
        """Give client-first-message."""
        return self._gs2_header + self._bare

    def final(self, server_first: bytes) -> bytes:
        """Answer server-first-message with client-final-message. Raises PeerError.

        Costs a PBKDF2 with the server's number of iterations unless the keys are kept or given.
        """
        nonce, salt, iterations = read_server_first(server_first, self._nonce)
        keys = self._find_keys(salt, iterations)
        binding = encode_base64(self._gs2_header + self._endpoint)
        without_proof = b"c=%b,r=%b" % (binding, nonce)
        auth_message = b"%b,%b,%b" % (self._bare, server_first, without_proof)
        stored_key = hashlib.sha256(keys.client_key).digest()
        proof = _xor(keys.client_key, _sign(stored_key, auth_message))
        self._server_signature = _sign(keys.server_key, auth_message)
        return b"%b,p=%b" % (without_proof, encode_base64(proof))

    def verify(self, server_final: bytes) -> None:
        """Check the server's signature. Raises PeerError (28000 when it is wrong)."""
        if not self._server_signature:
            raise ProxyBug("SCRAM server-final-message read before client-final-message was made")
        signature = read_server_final(server_final)
        if not hmac.compare_digest(signature, self._server_signature):
            raise PeerError(
                "the server's SCRAM signature is wrong: it does not know the user's password",
                "28000",
            )
        self.is_verified = True
        if self._fresh is not None:
            self._derived.keep(*self._fresh)

    def _find_keys(self, salt: bytes, iterations: int) -> ScramKeys:
        if isinstance(self._credential, ScramKeys):
            return self._credential
        password = self._credential.password
        keys = self._derived.find(password, salt, iterations)
        if keys is None:
            keys = derive_keys(password, salt, iterations)
            self._fresh = (password, salt, iterations, keys)
        return keys
