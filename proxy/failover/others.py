"""The other proxies and processes, asked by the one that hands over: are they there, do they hold?

Nobody keeps a list of them. How many proxies there are is declared (`failover.proxies`), and each
answer says of which proxy it is, and how many processes that one has.
"""

import asyncio
from collections.abc import Iterable

from proxy.errors import ClientError
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Lease, Member, Notice
from proxy.failover.site import Site

# They look about once a second.
_THERE_S = 5.0
_LOOK_S = 0.02


def who_is_missing(answers: Iterable[Answer], own: Member, proxies: int) -> str | None:
    """Say how many have not answered, or None when all have. Pure.

    answers: those that count. own: who asks. proxies: how many are declared, our own among them.
    """
    heard: dict[str, set[str]] = {own.proxy: {own.name}}
    counts = {own.proxy: own.processes}
    for answer in answers:
        heard.setdefault(answer.member.proxy, set()).add(answer.member.name)
        counts[answer.member.proxy] = answer.member.processes
    silent = sum(max(0, count - len(heard[proxy])) for proxy, count in counts.items())
    said = [
        f"{number} {one if number == 1 else many}"
        for number, one, many in (
            (max(0, proxies - len(heard)), "other proxy", "other proxies"),
            (silent, "process", "processes"),
        )
        if number
    ]
    return " and ".join(said) or None


class Others:
    """They, during one handover. notice: what they are told."""

    def __init__(self, site: Site, lease: Lease, grant: Grant, notice: Notice) -> None:
        self._site = site
        self._lease = lease
        self._grant = grant
        self._notice = notice

    async def find(self) -> None:
        """Wait until all have said that they are there. Raises ClientError when they do not."""
        await self._tell(self._notice)
        missing = await self._until_all(_THERE_S, is_holding=False)
        if missing is not None:
            raise ClientError(
                "55006",
                f"nothing was changed: {missing} did not answer, whose clients would get errors",
                hint="failover.proxies must say how many proxies serve this cluster.",
            )

    async def have_hold(self) -> None:
        """Tell all to let their clients wait. Raises ClientError."""
        await self._tell(
            Notice(self._notice.number, self._notice.old, self._notice.successor, is_holding=True)
        )

    async def until_holding(self, limit_s: float) -> None:
        """Wait until no client of theirs uses the old primary. Raises ClientError."""
        missing = await self._until_all(limit_s, is_holding=True)
        if missing is not None:
            raise ClientError(
                "55006",
                f"nothing was changed: clients of {missing} still use {self._notice.old} after"
                f" drain_timeout ({self._site.terms.drain_timeout_s:g} s)",
                hint="Long transactions, session mode or pinned clients.",
            )

    async def _tell(self, notice: Notice) -> None:
        try:
            await self._grant.announce(notice)
        except CoordinatorUnavailable as failed:
            raise _refusal(failed) from None

    async def _until_all(self, limit_s: float, *, is_holding: bool) -> str | None:
        """Wait until all have answered. Result: who has not, in time."""
        until = self._site.clock() + limit_s
        while True:
            try:
                answers = [
                    each
                    for each in await self._grant.read_answers()
                    if each.number == self._notice.number and each.is_holding >= is_holding
                ]
            except CoordinatorUnavailable as failed:
                raise _refusal(failed) from None
            missing = who_is_missing(answers, self._lease.member, self._site.terms.proxies)
            if missing is None or self._site.clock() >= until:
                return missing
            await asyncio.sleep(_LOOK_S)


def _refusal(failed: CoordinatorUnavailable) -> ClientError:
    return ClientError("55000", f"nothing was changed: the others cannot be told: {failed}")
