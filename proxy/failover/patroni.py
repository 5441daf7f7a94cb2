"""Whom does Patroni call its leader? Asked over its REST API.

Source: Patroni documentation, "Patroni REST API", cluster status endpoints.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from proxy.cluster import NodeAddress
from proxy.failover.site import Site
from proxy.telemetry import report

_log = logging.getLogger("pgweir.failover")

_AGAIN_S = 1.0
_ASK_S = 2.0
_MOST_BYTES = 1 << 20


class PatroniSilent(Exception):  # noqa: N818 -- a fact about them, not an error of ours
    """None of the addresses says who the leader is. Says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of its cluster, by its own name and where its PostgreSQL is."""

    name: str
    host: str
    port: int


async def listen_to_patroni(site: Site) -> None:
    """Task: hear from Patroni who is the leader, and look there at once when it is another."""
    silent = False
    while True:
        await asyncio.sleep(_AGAIN_S)
        if site.monitor is None or not site.terms.patroni:
            continue
        try:
            leader = await ask_leader(site.terms.patroni)
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


async def ask_leader(urls: Sequence[str]) -> Member | None:
    """The leader, or None while there is none, from whichever answers first. Raises PatroniSilent.

    Whoever holds no lock any more tells of an older cluster: what it says is a hint, which
    PostgreSQL's own word overrules.
    """
    reasons = []
    timeout = aiohttp.ClientTimeout(total=_ASK_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        for url in urls:
            try:
                async with http.get(f"{url.rstrip('/')}/cluster") as answer:
                    if answer.status == 200:
                        return read_leader(json.loads(await _read_all(answer.content)))
                    reasons.append(f"{url} answered {answer.status}")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failed:
                reasons.append(f"{url}: {failed or type(failed).__name__}")
    raise PatroniSilent("; ".join(reasons))


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
    """The node that is this member: at the same address, else of the same name."""
    place = (leader.host, leader.port)
    for node in nodes:
        if place in ((node.host, node.port), node.replication):
            return node.name
    return next((node.name for node in nodes if node.name == leader.name), None)


async def _read_all(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise ValueError("an answer without end")
    return bytes(body)
