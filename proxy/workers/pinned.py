"""Who keeps a server connection for itself, since when, and why?"""

import logging
from collections.abc import Callable, Mapping

from proxy.client.door import facts_of
from proxy.config import Policy
from proxy.console import Pin
from proxy.relay import Client, Server
from proxy.telemetry import Tally, keep_event
from proxy.wire import messages

_log = logging.getLogger("pgweir.client")

# Of the statement that caused a pin.
_MOST_TEXT = 200

_HINT = "What ends it: DROP, CLOSE, unlocking, DEALLOCATE or DISCARD ALL, whichever made it."


class Pinned:
    """The pins of one process. policy_of: what holds for a client. clock: monotonic seconds."""

    def __init__(
        self, policy_of: Callable[[Client], Policy | None], clock: Callable[[], float]
    ) -> None:
        self._policy_of = policy_of
        self._clock = clock
        self._pins: dict[Client, Pin] = {}
        self._counts: Tally[str] = Tally("other")

    def pins(self) -> list[Pin]:
        """All there are, the oldest first."""
        return list(self._pins.values())

    def counts(self) -> Mapping[str, int]:
        """How often each reason has pinned somebody."""
        return self._counts.read()

    def note(self, client: Client, server: Server, reasons: tuple[str, ...], cause: bytes) -> bytes:
        """A client is pinned for these reasons, or no longer. Result: a NoticeResponse, or b""."""
        before = self._pins.get(client)
        reason = ", ".join(reasons)
        if before is not None and before.reason == reason:
            return b""
        known = set() if before is None else set(before.reason.split(", "))
        for each in reasons:
            if each not in known:
                self._counts.add(each)
        facts = facts_of(client, client.login)
        facts["reason"] = reason
        _log.info(
            "client keeps its server connection" if reasons else "client shares again",
            extra={"facts": facts},
        )
        if not reasons:
            self._pins.pop(client, None)
            return b""
        text = cause.partition(b"\0")[0].decode("utf-8", "replace")
        self._pins[client] = Pin(
            client.line.database,
            client.line.user,
            client.address,
            server.pool.node,
            reason,
            self._clock() if before is None else before.since_s,
            " ".join(text.split())[:_MOST_TEXT] if before is None else before.statement,
        )
        policy = self._policy_of(client)
        if policy is None or not policy.pin_notice:
            return b""
        return messages.notice_response(
            "00000", f"this connection keeps its server connection for itself: {reason}", hint=_HINT
        )

    def forget(self, client: Client) -> None:
        """A client has left, or its server connection has."""
        self._pins.pop(client, None)

    def enforce(self) -> None:
        """Now and then: end what is beyond `max_pinned` or has lasted longer than `pin_timeout`."""
        counts: dict[tuple[str, str], int] = {}
        for client, pin in list(self._pins.items()):
            if not client.is_pinned:
                self.forget(client)
                continue
            policy = self._policy_of(client)
            if policy is None:
                continue
            line = (pin.database, pin.user)
            counts[line] = counts.get(line, 0) + 1
            if policy.pins == "refuse":
                why = f"not allowed to keep a server connection ({pin.reason}; pins: refuse)"
            elif 0 < policy.max_pinned < counts[line]:
                why = f"too many clients keep a server connection (max_pinned; {pin.reason})"
            elif 0 < policy.pin_timeout < self._clock() - pin.since_s:
                why = f"a server connection was kept for too long (pin_timeout; {pin.reason})"
            else:
                continue
            if client.is_idle:
                counts[line] -= 1
                facts = {"database": pin.database, "user": pin.user}
                keep_event("pins", why, facts, logging.WARNING, logger=_log.name)
                client.dismiss("53400", why, _HINT)
