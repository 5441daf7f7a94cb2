"""Whom does Patroni call its leader? Asked over its REST API.

`GET /cluster` names it, by any member. Where none can answer that (its store is down, and Patroni
goes on in failsafe mode), each is asked whether it is the primary itself: `GET /primary`.

Source: Patroni documentation, "Patroni REST API", health check and cluster status endpoints.
"""

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from proxy.cluster import NodeAddress
from proxy.failover.https import client_context, read_all
from proxy.failover.site import Site
from proxy.failover.terms import PatroniTerms
from proxy.telemetry import report

_log = logging.getLogger("pgweir.failover")

_AGAIN_S = 1.0
_ASK_S = 2.0
_MOST_BYTES = 1 << 20


class PatroniSilent(Exception):  # noqa: N818 -- a fact about them, not an error of ours
    """None of the addresses says who the leader is. Says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of its cluster: its own name, and where its PostgreSQL is; None where it does not say."""

    name: str | None
    host: str
    port: int | None


async def listen_to_patroni(site: Site) -> None:
    """Task: hear from Patroni who is the leader, and look there at once when it is another."""
    silent = False
    asking: Patroni | None = None
    while True:
        await asyncio.sleep(_AGAIN_S)
        terms = site.terms.patroni
        if site.monitor is None or not terms.urls:
            continue
        if asking is None or asking.terms != terms:
            asking = Patroni(terms)
        try:
            leader = await asking.ask_leader()
        except PatroniSilent as failed:
            if not silent:
                report(
                    _log,
                    "coordinator",
                    f"Patroni does not answer: {failed}",
                    {"cluster": site.cluster},
                    logging.WARNING,
                )
            silent, leader = True, None
        else:
            silent = False
        view = site.view
        addresses = [node.address for node in view.nodes]
        name = None if leader is None else find_node(leader, addresses)
        site.monitor.believe(name)
        if name is not None and name != view.primary:
            site.poke(name)
            site.poke(view.primary or name)


class Patroni:
    """Its REST API."""

    def __init__(self, terms: PatroniTerms) -> None:
        self.terms = terms
        # Read anew when nobody has answered: certificates may be others since.
        self._context: ssl.SSLContext | bool | None = None

    async def ask_leader(self) -> Member | None:
        """The leader, or None while there is none, from whichever answers first.

        Whoever holds no lock any more tells of an older cluster: what it says is a hint, which
        PostgreSQL's own word overrules. Raises PatroniSilent.
        """
        terms = self.terms
        try:
            if self._context is None:
                self._context = client_context(terms.urls, terms.ca, terms.cert, terms.key)
        except OSError as wrong:
            raise PatroniSilent(f"its TLS files: {wrong}") from None
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context),
            timeout=aiohttp.ClientTimeout(total=_ASK_S),
            headers=_headers(terms),
        ) as http:
            try:
                return await _ask_any(http, terms.urls)
            except PatroniSilent:
                self._context = None
                raise


def _headers(terms: PatroniTerms) -> dict[str, str]:
    """RFC 7617, where there is somebody to log in as."""
    if terms.user is None:
        return {}
    login = f"{terms.user}:{terms.password or ''}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


async def _ask_any(http: aiohttp.ClientSession, urls: Sequence[str]) -> Member | None:
    reasons = []
    for url in urls:
        try:
            status, body = await _get(http, url, "cluster")
            if status == 200:
                return read_leader(json.loads(body))
            reasons.append(f"{url} answered {status}")
        except _FAILURES as failed:
            reasons.append(f"{url}: {str(failed) or type(failed).__name__}")
    for url in urls:
        with contextlib.suppress(*_FAILURES):
            status, _ = await _get(http, url, "primary")
            # A replica answers 503.
            if status == 200 and (host := urlsplit(url).hostname):
                return Member(None, host, None)
    raise PatroniSilent("; ".join(reasons))


_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


async def _get(http: aiohttp.ClientSession, url: str, path: str) -> tuple[int, bytes]:
    async with http.get(f"{url.rstrip('/')}/{path}") as answer:
        return answer.status, await read_all(answer.content, _MOST_BYTES)


def read_leader(told: Any) -> Member | None:
    """The leader in an answer to GET /cluster. Raises ValueError when it is none."""
    try:
        for each in told["members"]:
            # A standby cluster has a `standby_leader`, which takes no writes.
            if each.get("role") == "leader" and each.get("state") == "running":
                return Member(str(each["name"]), str(each["host"]), int(each.get("port", 5432)))
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError(f"not what Patroni answers: {wrong!r}") from None
    return None


def find_node(leader: Member, nodes: Sequence[NodeAddress]) -> str | None:
    """The node that is this member: at the same address, else of the same name.

    Where its port is not known, there must be one node alone at its host.
    """
    if leader.port is None:
        there = [node for node in nodes if leader.host in (node.host, node.replication[0])]
        return there[0].name if len(there) == 1 else None
    place = (leader.host, leader.port)
    for node in nodes:
        if place in ((node.host, node.port), node.replication):
            return node.name
    return next((node.name for node in nodes if node.name == leader.name), None)
