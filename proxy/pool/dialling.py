"""How a server connection is logged in to: with which password, and with which if that fails."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from proxy.auth import Credential, DerivedKeys, Md5Secret, PlainSecret
from proxy.config import Policy
from proxy.errors import ClientError, PeerError
from proxy.pool.basin import Spring
from proxy.relay import Relay
from proxy.server import (
    Dialled,
    LoginRefused,
    Passwords,
    PasswordUnavailable,
    Unreachable,
    dial,
)
from proxy.telemetry import LimitedLog, Tally


class Dialler:
    """Opens server connections.

    credential_of: what logs a client's user in to the servers of a cluster, None when unknown.
    passwords: where those come from that are not in the configuration itself.
    connects: attempts by cluster, node and outcome.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        credential_of: Callable[[str, str], Credential | None],
        passwords: Passwords,
        refusals: LimitedLog,
    ) -> None:
        self._relay = relay
        self._credential_of = credential_of
        self._passwords = passwords
        self._refusals = refusals
        self._derived = DerivedKeys()
        self.connects: Tally[tuple[str, str, str]] = Tally(("", "", "other"))

    async def dial(self, spring: Spring, startup: Mapping[str, str]) -> Dialled:
        """Open one connection with these startup parameters, and count how that went.

        Raises Unreachable, PeerError, or ClientError when the server refuses the login.
        """
        policy = spring.policy
        node = (policy.cluster, spring.node.name)
        try:
            dialled = await self._log_in(spring, startup)
        except Unreachable:
            self.connects.add((*node, "refused"))
            raise
        except PeerError:
            self.connects.add((*node, "protocol_error"))
            raise
        except ClientError:
            self.connects.add((*node, "login_failed"))
            raise
        self.connects.add((*node, "ok"))
        if dialled.complaint is not None:
            facts = {"database": policy.database, "reason": dialled.complaint}
            self._refusals.log(logging.WARNING, "connect_query failed", facts)
        return dialled

    async def _log_in(self, spring: Spring, startup: Mapping[str, str]) -> Dialled:
        policy = spring.policy
        user = policy.user if policy.server_user is None else policy.server_user

        def attempt(credential: Credential | None) -> Awaitable[Dialled]:
            return dial(
                self._relay,
                spring.node.place,
                user=user,
                credential=credential,
                startup=startup,
                derived=self._derived,
                timeout_s=policy.server_connect_timeout,
                first_query=policy.connect_query,
            )

        credential = await self._credential(policy)
        try:
            return await attempt(credential)
        except LoginRefused as refused:
            if not refused.sqlstate.startswith("28"):
                raise
            other = await self._other_credential(policy, credential)
            if other is None:
                raise
            return await attempt(other)

    async def _credential(self, policy: Policy) -> Credential | None:
        """What to log in with. Raises Unreachable when a command does not say."""
        if policy.server_user is None:
            return self._credential_of(policy.cluster, policy.user)
        if policy.server_password_source is not None:
            try:
                return PlainSecret(await self._passwords.current(policy.server_password_source))
            except PasswordUnavailable as missing:
                # What a file had when it could be read is better than nothing.
                if policy.server_password is None:
                    raise Unreachable(str(missing)) from None
        if policy.server_password is None:
            # What the user has as a client's, as PgBouncer takes it from its auth_file.
            return self._credential_of(policy.cluster, policy.server_user)
        return PlainSecret(str(policy.server_password))

    async def _other_credential(
        self, policy: Policy, refused: Credential | None
    ) -> Credential | None:
        """What else to log in with, now that a server has refused this."""
        if policy.server_user is None or policy.server_password_source is None:
            # The server may not know the new password yet.
            return refused.old if isinstance(refused, PlainSecret | Md5Secret) else None
        if isinstance(refused, PlainSecret):
            self._passwords.doubt(policy.server_password_source, refused.password)
        renewed = await self._credential(policy)
        return None if renewed == refused else renewed
