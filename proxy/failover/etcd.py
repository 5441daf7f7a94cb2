"""Leases in etcd, over the JSON gateway of its v3 API.

Per cluster a few keys: `promoting` is there while somebody has the lease and goes with it; `node`
is the word that stays; `rest` goes by itself after the time in which nobody is to promote again.
Every write of the holder compares the revision at which `promoting` was made, so that one that has
lost the lease can change nothing any more. `notice`, and one key under `answers/` for each process
that answers it, belong to the holder's lease as well, and go with it.

Source: etcd documentation, "gRPC gateway" and "API reference" (v3.4): keys and values are base64,
64-bit numbers are strings.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from proxy.failover.https import client_context, read_all
from proxy.failover.keeping import KeptGrant, LeaseLost, boot_clock
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Member, Notice, Record
from proxy.failover.messages import read_answer, read_notice, write_answer, write_notice
from proxy.failover.reading import Reading

_ASK_S = 2.0
_MOST_BYTES = 1 << 20

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EtcdTerms:
    """How etcd is reached.

    endpoints: URLs, tried in turn. prefix: of all our keys. password: with user, or None.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/pgweir/"
    user: str | None = None
    password: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    ttl_s: float = 10.0


class EtcdLease:
    """The lease of one cluster. member: this process, shown to whoever looks at the keys."""

    is_shared = True

    def __init__(
        self,
        terms: EtcdTerms,
        cluster: str,
        member: Member,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.member = member
        self._terms = terms
        self._clock = clock
        self._keys = Keys(f"{terms.prefix}{cluster}/")
        self._reading = Reading(lambda: EtcdSession.open(terms))
        # Of the notice that was read last.
        self._lease_of_notice = "0"

    async def take(self, node: str) -> Grant | None:
        """Take the lease, unless somebody has it or rests. Raises CoordinatorUnavailable."""
        keys = self._keys
        session = await EtcdSession.open(self._terms)
        try:
            asked_at = self._clock()
            granted = await session.ask("lease/grant", {"TTL": str(max(1, int(self._terms.ttl_s)))})
            lease, ttl_s = str(granted["ID"]), float(granted["TTL"])
            answer = await session.ask(
                "kv/txn",
                {
                    "compare": [_is_absent(keys.promoting), _is_absent(keys.rest)],
                    "success": [
                        _put(keys.promoting, self.member.name, lease),
                        {"requestRange": {"key": _encode(keys.node)}},
                    ],
                },
            )
            if not answer.get("succeeded"):
                await session.ask("lease/revoke", {"ID": lease})
                await session.close()
                return None
            seat = EtcdSeat(keys, session, lease, str(answer["header"]["revision"]))
            found = answer["responses"][1].get("response_range", {}).get("kvs", [])
            before = _decode(found[0]["value"]) if found else None
            if before is None:
                await seat.write(node)
        except BaseException:
            await session.close()
            raise
        return KeptGrant(
            seat,
            before or node,
            is_inherited=before is not None,
            clock=self._clock,
            asked_at=asked_at,
            ttl_s=ttl_s,
        )

    async def read(self) -> Record:
        """What stands there. Raises CoordinatorUnavailable."""
        found = {
            _decode(each["key"]): each
            for each in await (await self._reading.session()).read_all(self._keys.folder)
        }
        node, notice = found.get(self._keys.node), found.get(self._keys.notice)
        if notice is not None:
            self._lease_of_notice = str(notice.get("lease", "0"))
        return Record(
            self._keys.promoting in found,
            None if node is None else _decode(node["value"]),
            None if notice is None else read_notice(_decode(notice["value"])),
        )

    async def answer(self, answer: Answer) -> None:
        """Answer the notice that was read last. Raises CoordinatorUnavailable."""
        key, lease = self._keys.answers + answer.member.name, self._lease_of_notice
        question = {"key": _encode(key), "value": _encode(write_answer(answer)), "lease": lease}
        await (await self._reading.session()).ask("kv/put", question)

    async def until_told(self, limit_s: float) -> None:
        """Nobody calls us."""
        await asyncio.sleep(limit_s)

    async def close(self) -> None:
        """Hang up."""
        await self._reading.close()


class Keys:
    """Those of one cluster, in its folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.promoting, self.node, self.rest, self.notice, self.answers = (
            folder + word for word in ("promoting", "node", "rest", "notice", "answers/")
        )


class EtcdSeat:
    """A lease that is ours. lease: its number. revision: at which `promoting` was made."""

    def __init__(self, keys: Keys, session: "EtcdSession", lease: str, revision: str) -> None:
        self.lease = lease
        self._keys = keys
        self._session = session
        self._revision = revision

    async def extend(self) -> float:
        """Keep it from now on."""
        answer = await self._session.ask("lease/keepalive", {"ID": self.lease})
        ttl_s = float(answer.get("result", {}).get("TTL", 0))
        if ttl_s <= 0:
            raise LeaseLost
        return ttl_s

    async def write(self, node: str) -> None:
        """Put down which node is being promoted."""
        await self._change([_put(self._keys.node, node)])

    async def announce(self, notice: Notice) -> None:
        """Put down what the others are to know."""
        await self._change([_put(self._keys.notice, write_notice(notice), self.lease)])

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say."""
        found = await self._session.read_all(self._keys.answers)
        answers = (read_answer(_decode(each["value"])) for each in found)
        return [each for each in answers if each is not None]

    async def leave(self, node: str | None, rest_s: float) -> None:
        """Give it back, and take the notice down."""
        changes = [_delete(self._keys.promoting), _delete(self._keys.notice)]
        changes.append(_delete(self._keys.node) if node is None else _put(self._keys.node, node))
        if rest_s > 0:
            ttl = {"TTL": str(max(1, round(rest_s)))}
            rest = await self._session.ask("lease/grant", ttl)
            changes.append(_put(self._keys.rest, "", str(rest["ID"])))
        await self._change(changes)
        await self._session.ask("lease/revoke", {"ID": self.lease})

    async def _change(self, changes: Sequence[Json]) -> None:
        """Change keys, if the lease is still ours."""
        ours = {
            "key": _encode(self._keys.promoting),
            "target": "CREATE",
            "result": "EQUAL",
            "createRevision": self._revision,
        }
        answer = await self._session.ask("kv/txn", {"compare": [ours], "success": list(changes)})
        if not answer.get("succeeded"):
            raise LeaseLost

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()


class EtcdSession:
    """A few questions to whichever endpoint answers; close it."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Sequence[str]) -> None:
        self._http = http
        self._endpoints = list(endpoints)
        self._headers: dict[str, str] = {}
        # Whether a question of it has had no answer.
        self.has_failed = False

    @classmethod
    async def open(cls, terms: EtcdTerms) -> "EtcdSession":
        """Connect, and log in where there is a user. Raises CoordinatorUnavailable."""
        try:
            context = client_context(terms.endpoints, terms.ca, terms.cert, terms.key)
        except OSError as wrong:
            raise CoordinatorUnavailable(f"etcd's TLS files: {wrong}") from None
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=_ASK_S),
        )
        session = cls(http, terms.endpoints)
        if terms.user is not None:
            try:
                who = {"name": terms.user, "password": terms.password or ""}
                token = str((await session.ask("auth/authenticate", who))["token"])
            except BaseException:
                await session.close()
                raise
            session._headers["Authorization"] = token
        return session

    async def ask(self, path: str, question: Mapping[str, Any]) -> Json:
        """One request. Raises CoordinatorUnavailable when no endpoint answers it."""
        reasons = []
        for endpoint in list(self._endpoints):
            url = f"{endpoint.rstrip('/')}/v3/{path}"
            try:
                async with self._http.post(url, json=question, headers=self._headers) as answer:
                    body = await read_all(answer.content, _MOST_BYTES)
                    if answer.status == 200:
                        return _read_json(body)
                    reasons.append(f"{endpoint} answered {answer.status}: {_shorten(body)}")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failed:
                reasons.append(f"{endpoint}: {str(failed) or type(failed).__name__}")
            # The next question begins with another one.
            self._endpoints.append(self._endpoints.pop(0))
        self.has_failed = True
        raise CoordinatorUnavailable(f"etcd does not answer: {'; '.join(reasons)}")

    async def read_all(self, folder: str) -> list[Json]:
        """All keys of a folder. folder: ends with a slash. Raises CoordinatorUnavailable."""
        # Up to the letter that follows a slash.
        question = {"key": _encode(folder), "range_end": _encode(folder[:-1] + "0")}
        found = (await self.ask("kv/range", question)).get("kvs", [])
        return [dict(each) for each in found]

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()


def _read_json(body: bytes) -> Json:
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("no object")
    return answer


def _shorten(body: bytes) -> str:
    return " ".join(body.decode("utf-8", "replace").split())[:200]


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "replace")


def _is_absent(key: str) -> Json:
    return {
        "key": _encode(key),
        "target": "CREATE",
        "result": "EQUAL",
        "createRevision": "0",
    }


def _put(key: str, value: str, lease: str = "0") -> Json:
    return {"requestPut": {"key": _encode(key), "value": _encode(value), "lease": lease}}


def _delete(key: str) -> Json:
    return {"requestDeleteRange": {"key": _encode(key)}}
