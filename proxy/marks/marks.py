"""What is told and asked when, and what holds while Redis does not answer.

One task talks, one batch at a time: what comes while one is under way goes with the next.

While there is no session, reads under keys are for the primary, and what is written under them is
told to nobody: acknowledgements are held back until the lease has ended by which others count on
hearing from us, and given freely then. Whoever joins again after that starts a new era.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.marks.member import has_ended, name_of_this_process
from proxy.marks.session import FAILURES, LEASE_S, Heard, RedisTerms, Session, digest_of
from proxy.telemetry import RedisFigures, Tally, report

_log = logging.getLogger("pgweir.redis")

_RENEW_S = 1.0
_AGAIN_S = 0.25
# How often we look whether what was announced has a position by now.
_SETTLE_S = 0.05
# More than a lease: a command that was sent may arrive after we have given it up.
_FREE_AFTER_S = LEASE_S + 1.0
_MOST_AT_ONCE = 500
_MOST_UNSETTLED = 10_000
_MOST_SEEN = 100_000
_LEAVES_S = 2.0

Keys = tuple[str | None, ...]
"""None: every key there is."""


class Positions(Protocol):
    """What is known of the primaries here."""

    def position_after(self, cluster: str, at_s: float) -> tuple[int, int] | None:
        """Timeline and position where all that was written until then ends, None: not known yet."""

    def timeline(self, cluster: str) -> int:
        """The primary's; 0 when it is not known."""

    def note_key(self, cluster: str, key: str, at_s: float) -> None:
        """Something was written under a key, at the latest then."""

    def doubt_keys(self, at_s: float) -> None:
        """Until then anything may have been written under any key."""

    def hurry(self, cluster: str) -> None:
        """Find out soon where the nodes of a cluster are."""


@dataclass(frozen=True, slots=True)
class _Announcement:
    cluster: str
    keys: Keys
    since_s: float
    acknowledge: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Question:
    cluster: str
    keys: Sequence[str]
    tell: Callable[[int | None], None]


@dataclass(frozen=True, slots=True)
class _Unsettled:
    cluster: str
    mark: bytes
    at_s: float


class Marks:
    """What is known of other proxies' writes. `start` it, and `stop` it behind the last client.

    clock: seconds; that of positions.
    """

    def __init__(self, terms: RedisTerms, positions: Positions, clock: Callable[[], float]) -> None:
        self._terms = terms
        self._positions = positions
        self._clock = clock
        self._member = name_of_this_process()
        self._session: Session | None = None
        self._era = b""
        self._announcements: list[_Announcement] = []
        self._questions: list[_Question] = []
        self._unsettled: OrderedDict[str, _Unsettled] = OrderedDict()
        self._seen: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._wake = asyncio.Event()
        self._stopping = False
        self._is_joining = False
        self._is_untold = False
        self._is_loud = True
        # Until then others may count on hearing from us: also those who have just been told.
        self._free_s = clock() + _FREE_AFTER_S
        self._task: asyncio.Task[None] | None = None
        self._counts: Tally[str] = Tally("failed")
        self._withheld_s = 0.0

    def figures(self) -> RedisFigures:
        """A reading of its counters."""
        return RedisFigures(int(self._session is not None), self._counts.read(), self._withheld_s)

    def start(self) -> None:
        """Begin to talk, in this event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Tell what is still to be told, and leave."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LEAVES_S)
            self._task.cancel()
            await asyncio.wait([self._task])
        # Nobody is told anything any more.
        self._free_s = self._clock()
        self._acknowledge_untold()

    # --- what the relay says -------------------------------------------------------------------

    def announce(self, cluster: str, keys: Keys, acknowledge: Callable[[], None]) -> bool:
        """Something was committed under keys.

        Result: whether its client is to wait; `acknowledge` is called when it need not any more.
        """
        now_s = self._clock()
        if self._session is None and not self._is_joining and now_s >= self._free_s:
            self._is_untold = True
            self._counts.add("untold")
            return False
        self._announcements.append(_Announcement(cluster, keys, now_s, acknowledge))
        self._wake.set()
        return True

    def ask(self, cluster: str, keys: Sequence[str], tell: Callable[[int | None], None]) -> bool:
        """Ask what was written under keys. tell: called with a position, or None: nobody knows.

        Result: whether there is somebody to ask.
        """
        if self._session is None:
            return False
        self._questions.append(_Question(cluster, keys, tell))
        self._wake.set()
        return True

    # --- the task ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            try:
                session = await Session.open(self._terms, self._member)
            except FAILURES as failed:
                self._is_away(failed)
                await asyncio.sleep(_AGAIN_S)
                continue
            # From here on others may count on hearing from us.
            self._is_joining = True
            try:
                await session.join(is_untold=self._is_untold)
                self._is_back(session)
                await self._talk(session)
            except FAILURES as failed:
                self._is_lost()
                self._is_away(failed)
            except Exception:  # noqa: BLE001 -- top of a task: it must go on
                self._is_lost()
                _log.exception("talking to Redis failed")
                await asyncio.sleep(_AGAIN_S)
            finally:
                self._is_lost()
                await session.close()

    async def _talk(self, session: Session) -> None:
        """Until it is lost, or we are to stop."""
        renewed_s = self._clock()
        while True:
            if self._announcements:
                await self._announce_all(session)
            if self._questions:
                await self._ask_all(session)
            await self._settle_all(session)
            if self._clock() - renewed_s >= _RENEW_S:
                renewed_s = self._clock()
                ended = [member for member in await session.renew() if has_ended(member)]
                if ended:
                    await session.remove(ended)
            if self._announcements or self._questions:
                continue
            if self._stopping:
                await session.leave()
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(_SETTLE_S if self._unsettled else _RENEW_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _announce_all(self, session: Session) -> None:
        batch = self._announcements[:_MOST_AT_ONCE]
        digests = {
            digest_of(each.cluster, key): each.cluster
            for each in batch
            for key in each.keys
            if key is not None
        }
        mark = await session.announce(digests, is_every=any(None in each.keys for each in batch))
        now_s = self._clock()
        del self._announcements[: len(batch)]
        self._counts.add("announced", len(batch))
        for digest, cluster in digests.items():
            self._unsettled[digest] = _Unsettled(cluster, mark, now_s)
            self._unsettled.move_to_end(digest)
        while len(self._unsettled) > _MOST_UNSETTLED:
            # Whoever asks finds out by itself.
            self._unsettled.popitem(last=False)
        self._acknowledge(batch, now_s)

    async def _ask_all(self, session: Session) -> None:
        batch = self._questions[:_MOST_AT_ONCE]
        asked = {
            (each.cluster, key): digest_of(each.cluster, key) for each in batch for key in each.keys
        }
        heard = await session.ask(asked.values())
        now_s = self._clock()
        del self._questions[: len(batch)]
        self._counts.add("asked", len(batch))
        if heard.era != self._era:
            self._begin_era(heard.era, now_s)
        found = self._read(asked, heard, now_s)
        for each in batch:
            if heard.is_certain:
                each.tell(max((found[each.cluster, key] for key in each.keys), default=0))
            else:
                each.tell(None)

    def _read(
        self, asked: dict[tuple[str, str], str], heard: Heard, now_s: float
    ) -> dict[tuple[str, str], int]:
        """What a node must have replayed for each key; 0 where that is not told, but noted."""
        found: dict[tuple[str, str], int] = {}
        for (cluster, key), mark in zip(asked, heard.marks, strict=True):
            found[cluster, key] = 0
            if mark is None:
                continue
            stamp, _, position = mark.partition(b" ")
            first_seen_s = self._see(asked[cluster, key], cluster, stamp, now_s)
            timeline, _, lsn = position.partition(b" ")
            if lsn and int(timeline) == self._positions.timeline(cluster):
                found[cluster, key] = int(lsn)
            else:
                # All of it was written before we saw it.
                self._positions.note_key(cluster, key, first_seen_s)
        return found

    def _see(self, digest: str, cluster: str, stamp: bytes, now_s: float) -> float:
        """When we saw this mark first."""
        known = self._seen.get(digest)
        if known is not None and known[0] == stamp:
            self._seen.move_to_end(digest)
            return known[1]
        self._seen[digest] = stamp, now_s
        self._seen.move_to_end(digest)
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        self._positions.hurry(cluster)
        return now_s

    async def _settle_all(self, session: Session) -> None:
        """Say where announced writes end, once that is known: then nobody has to find out."""
        settled: list[tuple[str, bytes, str]] = []
        for digest, each in self._unsettled.items():
            position = self._positions.position_after(each.cluster, each.at_s)
            if position is None or len(settled) == _MOST_AT_ONCE:
                break
            settled.append((digest, each.mark, f"{position[0]} {position[1]}"))
        if settled:
            await session.settle(settled)
            self._counts.add("settled", len(settled))
            for digest, mark, _ in settled:
                if self._unsettled[digest].mark == mark:
                    del self._unsettled[digest]

    # --- whether it answers --------------------------------------------------------------------

    def _is_back(self, session: Session) -> None:
        self._session = session
        self._is_joining = self._is_untold = False
        if session.era != self._era:
            self._begin_era(session.era, self._clock())
        if session.is_lossy:
            report(
                _log,
                "redis",
                "Redis drops keys for want of memory: reads under a key may be older than they "
                "should be; set its maxmemory-policy to noeviction",
                level=logging.WARNING,
            )
        report(_log, "redis", "Redis answers: keys hold across proxies")
        self._is_loud = True

    def _is_lost(self) -> None:
        """There is no session any more, though others may not know that yet."""
        self._session = None
        self._is_joining = False
        self._free_s = self._clock() + _FREE_AFTER_S
        batch, self._questions = self._questions, []
        for each in batch:
            each.tell(None)

    def _is_away(self, failed: BaseException) -> None:
        self._counts.add("failed")
        if self._is_loud:
            self._is_loud = False
            report(
                _log,
                "redis",
                "Redis does not answer: reads under a key go to the primary",
                {"reason": self._without_secrets(str(failed) or repr(failed))},
                logging.WARNING,
            )
        if self._clock() >= self._free_s:
            self._acknowledge_untold()

    def _without_secrets(self, text: str) -> str:
        """An error of the library may quote what it was given."""
        for secret in (self._terms.url, self._terms.password):
            if secret:
                text = text.replace(secret, "…")
        return text

    def _begin_era(self, era: bytes, now_s: float) -> None:
        self._era = era
        self._seen.clear()
        self._positions.doubt_keys(now_s)

    def _acknowledge_untold(self) -> None:
        """Nobody counts on hearing of these any more."""
        if self._announcements:
            batch, self._announcements = self._announcements, []
            self._is_untold = True
            self._counts.add("untold", len(batch))
            self._acknowledge(batch, self._clock())

    def _acknowledge(self, batch: Sequence[_Announcement], now_s: float) -> None:
        for each in batch:
            self._withheld_s += now_s - each.since_s
            each.acknowledge()
