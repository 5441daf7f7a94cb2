"""Over what a store is read that is looked at again and again, by whoever has no lease."""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar


class Session(Protocol):
    """Asks a store. has_failed: whether a question of it has had no answer."""

    has_failed: bool

    async def close(self) -> None:
        """Hang up."""


SessionT = TypeVar("SessionT", bound=Session)


class Reading(Generic[SessionT]):
    """One session for as long as it answers; then a new one, as no login lasts for ever.

    connect: makes one. Raises CoordinatorUnavailable.
    """

    def __init__(self, connect: Callable[[], Awaitable[SessionT]]) -> None:
        self._connect = connect
        self._session: SessionT | None = None

    async def session(self) -> SessionT:
        """The one of now. Raises CoordinatorUnavailable."""
        if self._session is not None and self._session.has_failed:
            await self.close()
        if self._session is None:
            self._session = await self._connect()
        return self._session

    async def close(self) -> None:
        """Hang up."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
