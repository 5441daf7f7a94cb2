"""Brings what was heard to those who listen."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxy.channels.ear import Ear
from proxy.channels.subscriptions import Notification, Subscriptions
from proxy.cluster import NodeAddress, ProbeLogin
from proxy.errors import PeerError
from proxy.relay import Client, Server
from proxy.wire import messages

_log = logging.getLogger("pgweir.channels")

# How long a LISTEN waits for the proxy's own.
_PATIENCE_S = 10.0
_DEFERRED_S = 0.002
_DEFERRED_AT_MOST_S = 0.1

_GAP = messages.notice_response(
    "01000",
    "notifications may have been missed: the proxy's listening connection was lost",
    severity="WARNING",
    hint="It listens again. Look at what you were to be notified of.",
)

# Client encodings that are not UTF8; what is in none of these is sent as UTF-8.
_CODECS = {
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN9": "iso8859-15",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "KOI8R": "koi8-r",
    "EUC_JP": "euc-jp",
    "SJIS": "cp932",
    "GBK": "gbk",
    "BIG5": "big5",
}


class Place(NamedTuple):
    """A database as the nodes know it."""

    cluster: str
    dbname: str


@dataclass(slots=True)
class _Room:
    ear: Ear
    subscriptions: Subscriptions[Client] = field(default_factory=Subscriptions)


class Hub:
    """All that is listened to for the clients of one process.

    address_of: a cluster's primary. login_of: as whom to listen in a database. notifier_of: which
    client said NOTIFY last on the server connection of that process id, 0 if that is not known.
    """

    def __init__(
        self,
        address_of: Callable[[str], NodeAddress | None],
        login_of: Callable[[Place], ProbeLogin],
        notifier_of: Callable[[Place, int], int],
    ) -> None:
        self._address_of = address_of
        self._notifier_of = notifier_of
        self._login_of = login_of
        self._rooms: dict[Place, _Room] = {}
        self._places: dict[Client, Place] = {}
        # What clients wait for that are about to listen; why they will not.
        self._awaited: dict[Client, frozenset[str]] = {}
        self._refusals: dict[Client, bytes] = {}
        # Those that have been told all that was notified before the UNLISTEN they wait to run.
        self._caught_up: set[Client] = set()
        # What waits until a client has had the answer of its own server.
        self._deferred: dict[Client, list[Notification]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def may_listen(self, client: Client, place: Place, channels: frozenset[str]) -> bytes | None:
        """Say whether a client's LISTEN may be sent: None if so, b"" for not yet.

        Else the ErrorResponse. For b"", `client.go_on` is called when there is more to say.
        """
        if (refusal := self._refusals.pop(client, None)) is not None:
            return refusal
        room = self._room(place)
        self._places[client] = place
        room.subscriptions.expect(client, channels)
        room.ear.want(room.subscriptions.wanted)
        if room.ear.hears(channels):
            return None
        self._awaited[client] = channels
        self._begin(self._await_ear(client, room, channels))
        return b""

    def may_unlisten(self, client: Client) -> bytes | None:
        """Say whether a client's UNLISTEN may be sent: None if so, b"" for not yet.

        What was notified before it is the client's, and has not been heard by us yet, perhaps.
        """
        room = self._room_of(client)
        if room is None or client in self._caught_up:
            self._caught_up.discard(client)
            return None
        self._begin(self._catch_up(client, room))
        return b""

    def commits(self, client: Client) -> None:
        """A transaction is over in which it may have begun to listen."""
        if (room := self._room_of(client)) is not None:
            room.subscriptions.commits(client)

    def listens(self, client: Client, place: Place, channels: frozenset[str]) -> None:
        """A client listens to these from now on."""
        room = self._room(place)
        self._places[client] = place
        still = self._awaited.get(client, frozenset())
        if client in self._deferred:
            # What it listens to no more it is not told any more.
            deferred = self._deferred[client]
            self._deferred[client] = [each for each in deferred if each.channel in channels]
        for late in room.subscriptions.settle(client, channels, still):
            self._tell(client, late)
        room.ear.want(room.subscriptions.wanted)
        if not channels and not still:
            self._places.pop(client, None)

    def notified(self, client: Client, server: Server, body: bytes) -> bool:
        """Say whether a client is to hear this of its own server: what it notified itself."""
        room = self._room_of(client)
        try:
            pid, channel, payload = messages.read_notification(body)
        except PeerError:
            return False
        # What others notified comes by the ear, and in its order.
        if room is None or pid != server.pid:
            return False
        codec = _codec_of(client)
        what = Notification(pid, channel.decode(codec, "replace"), payload.decode(codec, "replace"))
        deferred = self._deferred.get(client, [])
        if what in deferred:
            deferred.remove(what)
        else:
            room.subscriptions.passes_own(client, what)
        return True

    def forget(self, client: Client) -> None:
        """A client has left."""
        self._refusals.pop(client, None)
        self._caught_up.discard(client)
        place = self._places.pop(client, None)
        if place is not None:
            room = self._rooms[place]
            room.subscriptions.forget(client)
            room.ear.want(room.subscriptions.wanted)

    def look(self, cluster: str) -> None:
        """The primary of a cluster may be another one now."""
        for place, room in self._rooms.items():
            if place.cluster == cluster:
                room.ear.look()

    def tidy(self) -> None:
        """Now and then: whose LISTEN failed listens to nothing."""
        for room in self._rooms.values():
            stopped = [who for who in room.subscriptions.expecting() if who.is_idle]
            for who in stopped:
                room.subscriptions.give_up(who)
            if stopped:
                room.ear.want(room.subscriptions.wanted)

    async def aclose(self) -> None:
        """Hang up everywhere."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for room in self._rooms.values():
            await room.ear.aclose()

    def _room(self, place: Place) -> _Room:
        login = self._login_of(place)
        room = self._rooms.get(place)
        if room is None:
            ear = Ear(
                f"{place.cluster}/{place.dbname}",
                lambda: self._address_of(place.cluster),
                login,
                on_heard=lambda what: self._bring(self._rooms[place], what),
                on_gap=lambda: self._warn(self._rooms[place]),
            )
            room = self._rooms[place] = _Room(ear)
        # Used at the next login: the configuration may have changed.
        room.ear.login = login
        return room

    def _room_of(self, client: Client) -> _Room | None:
        place = self._places.get(client)
        return None if place is None else self._rooms[place]

    async def _await_ear(self, client: Client, room: _Room, channels: frozenset[str]) -> None:
        """Task: let a client go on once we listen for it, or tell it why not."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await room.ear.until_heard(channels)
        except (TimeoutError, ConnectionRefusedError):
            self._refusals[client] = messages.error_response(
                "08001",
                "the proxy cannot listen in this database",
                detail=f"Its own listening connection: {room.ear.trouble}.",
                hint="LISTEN works in session mode without it.",
            )
        del self._awaited[client]
        if client.is_closed:
            self._refusals.pop(client, None)
            return
        client.go_on()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have a client's wait done by a task that ends with us."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, client: Client, room: _Room) -> None:
        """Task: let a client go on once all was brought to it that had been notified."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await room.ear.until_caught_up()
        if client.is_closed:
            return
        self._caught_up.add(client)
        client.go_on()

    def _bring(self, room: _Room, what: Notification) -> None:
        for client in room.subscriptions.heard(what):
            if client in self._deferred:
                self._deferred[client].append(what)
            elif client.server_pid == what.pid and not client.is_idle:
                # It may be the client's own, and then comes with the answer that it waits for.
                self._deferred[client] = [what]
                self._tell_deferred(client, _DEFERRED_S)
            else:
                self._tell(client, what)

    def _tell_deferred(self, client: Client, after_s: float) -> None:
        """Tell what was deferred when the client is idle; look for that less often with time."""
        if not client.is_idle and not client.is_closed:
            later_s = min(2 * after_s, _DEFERRED_AT_MOST_S)
            asyncio.get_running_loop().call_later(after_s, self._tell_deferred, client, later_s)
            return
        for what in self._deferred.pop(client, []):
            self._tell(client, what)

    def _tell(self, client: Client, what: Notification) -> None:
        codec = _codec_of(client)
        # Clients know each other by the process ids that they were told at their logins.
        place = self._places.get(client)
        pid = (0 if place is None else self._notifier_of(place, what.pid)) or what.pid
        message = messages.notification_response(
            pid, what.channel.encode(codec, "replace"), what.payload.encode(codec, "replace")
        )
        self._send(client, message)

    def _warn(self, room: _Room) -> None:
        room.subscriptions.missed()
        for client in room.subscriptions.listeners():
            self._send(client, _GAP)

    def _send(self, client: Client, message: bytes) -> None:
        try:
            client.tell(message)
        except OverflowError:
            with contextlib.suppress(OSError):
                client.dismiss("53400", "too many notifications wait to be read by the client")


def _codec_of(client: Client) -> str:
    encoding = client.settings.get("client_encoding", "UTF8")
    return _CODECS.get(encoding.upper(), "utf-8")
