"""Leases in Kubernetes: one object `Lease` for each cluster, that every proxy may write.

Who writes it says which version it has read, and is refused when somebody has written since. While
a proxy has the lease its name is in `holderIdentity`, and it writes again and again; one that has
not been written for its `leaseDurationSeconds` is taken over. That time is counted on our own
clock, from when we saw the version, as client-go does: clocks of other machines are not trusted.

The word that stays is an annotation, and so are a notice and what others answer to it: they write
the same object, without touching what the holder has written. An object without a holder rests for
`leaseDurationSeconds` from `renewTime`, if it has one. This is by the wall clock, for who has just
been started; a wrong clock makes the rest shorter, or as long again from when we saw it.

Source: Kubernetes API reference, "Lease" v1; "API conventions", on concurrency control; "Accessing
the Kubernetes API from a Pod".
"""

import asyncio
import hashlib
import json
import os
import re
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from proxy.failover.https import read_all
from proxy.failover.keeping import KeptGrant, LeaseLost, boot_clock
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Member, Notice, Record
from proxy.failover.messages import read_answer, read_notice, write_answer, write_notice
from proxy.failover.reading import Reading

_ASK_S = 2.0
_MOST_BYTES = 1 << 20
_WORD = "pgweir/promoting"
_NOTICE = "pgweir/notice"
_ANSWER = "pgweir/answer-"
# Everybody writes the same object; who comes second reads it again.
_TRIES = 8
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has its own."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KubernetesTerms:
    """How the API server is reached, from inside a pod.

    namespace, lease: of the object; None for the pod's, and for one named after the cluster.
    account: the folder with the service account's `token`, `ca.crt` and `namespace`.
    """

    namespace: str | None = None
    lease: str | None = None
    account: Path = SERVICE_ACCOUNT
    ttl_s: float = 10.0
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


class KubernetesLease:
    """The lease of one cluster. member: this process, shown to whoever looks at the object."""

    is_shared = True

    def __init__(
        self,
        terms: KubernetesTerms,
        cluster: str,
        member: Member,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.member = member
        self._terms = terms
        self._clock = clock
        self._reading = Reading(self._connect)
        self._object = terms.lease or name_object(cluster)
        self._ttl_s = max(1, int(terms.ttl_s))
        # What its holder has written last, and since when we know.
        self._seen: object = None
        self._seen_at = 0.0

    async def take(self, node: str) -> Grant | None:
        """Take the lease, unless somebody has it or rests. Raises CoordinatorUnavailable."""
        session = KubernetesSession.open(self._terms, self._object)
        try:
            found = await session.read()
            if found is not None and not self._is_free(found):
                await session.close()
                return None
            ours = found or session.blank()
            holder = f"{self.member.name}/{secrets.token_hex(4)}"
            notes = _without_notice(ours)
            is_inherited = _WORD in notes
            word = notes.setdefault(_WORD, node)
            now = tell_time(datetime.now(UTC))
            taken_before = int(ours["spec"].get("leaseTransitions") or 0)
            ours["spec"] |= {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._ttl_s,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": taken_before + (found is not None),
            }
            asked_at = self._clock()
            written = await session.write(ours)
        except BaseException:
            await session.close()
            raise
        if written is None:
            await session.close()
            return None
        seat = KubernetesSeat(session, written, self._ttl_s)
        return KeptGrant(
            seat,
            word,
            is_inherited=is_inherited,
            clock=self._clock,
            asked_at=asked_at,
            ttl_s=self._ttl_s,
        )

    def _is_free(self, found: Json) -> bool:
        """Whether nobody has it, as far as our clock can tell, and nobody rests."""
        spec = found["spec"]
        is_held = bool(spec.get("holderIdentity"))
        if (written := (spec.get("holderIdentity"), spec.get("renewTime"))) != self._seen:
            self._seen, self._seen_at = written, self._clock()
        lasts_s = int(spec.get("leaseDurationSeconds") or (self._ttl_s if is_held else 0))
        if self._clock() - self._seen_at >= lasts_s:
            return True
        return not is_held and _is_over(spec.get("renewTime"), lasts_s)

    async def read(self) -> Record:
        """What stands there. Raises CoordinatorUnavailable."""
        found = await (await self._reading.session()).read()
        if found is None:
            return Record()
        is_held = not self._is_free(found) and bool(found["spec"].get("holderIdentity"))
        notes = found["metadata"].get("annotations") or {}
        notice = read_notice(notes.get(_NOTICE)) if is_held else None
        return Record(is_held, notes.get(_WORD), notice)

    async def answer(self, answer: Answer) -> None:
        """Answer a notice, if it still stands. Raises CoordinatorUnavailable."""
        session = await self._reading.session()
        key = _ANSWER + hashlib.sha256(answer.member.name.encode()).hexdigest()[:12]
        for _ in range(_TRIES):
            found = await session.read()
            notes = {} if found is None else found["metadata"].get("annotations") or {}
            notice = read_notice(notes.get(_NOTICE))
            if found is None or notice is None or notice.number != answer.number:
                return
            notes[key] = write_answer(answer)
            if await session.write(found) is not None:
                return
        raise CoordinatorUnavailable("others write the lease all the time")

    async def _connect(self) -> "KubernetesSession":
        return KubernetesSession.open(self._terms, self._object)

    async def until_told(self, limit_s: float) -> None:
        """Nobody calls us."""
        await asyncio.sleep(limit_s)

    async def close(self) -> None:
        """Hang up."""
        await self._reading.close()


class KubernetesSeat:
    """A lease that is ours. written: the object as it was written last."""

    def __init__(self, session: "KubernetesSession", written: Json, ttl_s: int) -> None:
        self._session = session
        self._written = written
        self._ttl_s = ttl_s
        self._holder: str = written["spec"]["holderIdentity"]
        # One write after the other: each needs the version that the one before was given.
        self._writing = asyncio.Lock()

    async def extend(self) -> float:
        """Keep it from now on."""
        await self._change(lambda _changed: None)
        return self._ttl_s

    async def write(self, node: str) -> None:
        """Put down which node is being promoted."""
        await self._change(lambda changed: _put_word(changed, node))

    async def announce(self, notice: Notice) -> None:
        """Put down what the others are to know."""

        def put_up(changed: Json) -> None:
            changed["metadata"].setdefault("annotations", {})[_NOTICE] = write_notice(notice)

        await self._change(put_up)

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say."""
        found = await self._session.read()
        if found is None or found["spec"].get("holderIdentity") != self._holder:
            raise LeaseLost
        notes = found["metadata"].get("annotations") or {}
        answers = (read_answer(text) for key, text in notes.items() if key.startswith(_ANSWER))
        return [each for each in answers if each is not None]

    async def leave(self, node: str | None, rest_s: float) -> None:
        """Give it back, and take the notice down."""

        def give_back(changed: Json) -> None:
            _without_notice(changed)
            _put_word(changed, node)
            changed["spec"]["holderIdentity"] = ""
            changed["spec"]["leaseDurationSeconds"] = max(1, round(rest_s)) if rest_s > 0 else None

        await self._change(give_back)

    async def _change(self, change: Callable[[Json], None]) -> None:
        """Write it anew, if it is still ours."""
        async with self._writing:
            for _ in range(_TRIES):
                written = await self._session.write(self._changed(change))
                if written is not None:
                    self._written = written
                    return
                # Somebody has written: with an answer, or ourselves, when one of ours was late.
                found = await self._session.read()
                if found is None or found["spec"].get("holderIdentity") != self._holder:
                    raise LeaseLost
                self._written = found
            raise CoordinatorUnavailable("others write the lease all the time")

    def _changed(self, change: Callable[[Json], None]) -> Json:
        changed: Json = json.loads(json.dumps(self._written))
        changed["spec"]["renewTime"] = tell_time(datetime.now(UTC))
        change(changed)
        return changed

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()


class KubernetesSession:
    """A few questions about one object; close it."""

    def __init__(self, http: aiohttp.ClientSession, folder: str, name: str) -> None:
        self._http = http
        self._folder = folder
        self._name = name
        # Whether a question of it has had no answer.
        self.has_failed = False

    @classmethod
    def open(cls, terms: KubernetesTerms, name: str) -> "KubernetesSession":
        """Read what a pod is given to find its API server. Raises CoordinatorUnavailable."""
        host, port = (
            terms.environment.get(f"KUBERNETES_SERVICE_{word}", "") for word in ("HOST", "PORT")
        )
        if not host or not port:
            raise CoordinatorUnavailable("no Kubernetes: KUBERNETES_SERVICE_HOST and _PORT not set")
        try:
            # The token is another one every hour.
            token = (terms.account / "token").read_text("utf-8").strip()
            namespace = terms.namespace or (terms.account / "namespace").read_text("utf-8").strip()
            context = ssl.create_default_context(cafile=terms.account / "ca.crt")
            # Authorities of many clusters lack what Python 3.13 began to insist on.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        except (OSError, ValueError) as wrong:
            raise CoordinatorUnavailable(f"the pod's service account: {wrong}") from None
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=_ASK_S),
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        folder = f"https://{where}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        return cls(http, folder, name)

    def blank(self) -> Json:
        """An object that is not there yet."""
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {},
        }

    async def read(self) -> Json | None:
        """The object, None when there is none. Raises CoordinatorUnavailable."""
        status, found = await self._ask("GET", f"{self._folder}/{self._name}")
        if status == 404:
            return None
        found.setdefault("spec", {})
        return found

    async def write(self, changed: Json) -> Json | None:
        """Write the object over the version it has, or make it. Result: as it is now.

        None when somebody has written it since. Raises CoordinatorUnavailable.
        """
        if "resourceVersion" in changed["metadata"]:
            status, written = await self._ask("PUT", f"{self._folder}/{self._name}", changed)
        else:
            status, written = await self._ask("POST", self._folder, changed)
        return None if status in (404, 409) else written

    async def _ask(self, method: str, url: str, body: Json | None = None) -> tuple[int, Json]:
        try:
            return await self._ask_once(method, url, body)
        except CoordinatorUnavailable:
            self.has_failed = True
            raise

    async def _ask_once(self, method: str, url: str, body: Json | None) -> tuple[int, Json]:
        try:
            async with self._http.request(method, url, json=body) as answer:
                told = json.loads(await read_all(answer.content, _MOST_BYTES))
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failed:
            reason = str(failed) or type(failed).__name__
            raise CoordinatorUnavailable(f"Kubernetes does not answer: {reason}") from None
        if not isinstance(told, dict):
            raise CoordinatorUnavailable("Kubernetes answered with something else than an object")
        if status in (200, 201) and "resourceVersion" in told.get("metadata", {}):
            return status, told
        # No such namespace is a 404 as well, and 409 is a quota's answer too: the reason tells.
        if (status, told.get("reason")) in _EXPECTED:
            return status, told
        message = str(told.get("message", ""))[:300]
        raise CoordinatorUnavailable(f"Kubernetes answered {status}: {message}")

    async def close(self) -> None:
        """Hang up."""
        await self._http.close()


_EXPECTED = {(404, "NotFound"), (409, "Conflict"), (409, "AlreadyExists")}


def name_object(cluster: str) -> str:
    """How the object of a cluster is called: in few letters, and never as that of another."""
    plain = _NOT_A_NAME.sub("-", cluster.lower()).strip("-")[:40].strip("-")
    if plain == cluster:
        return f"pgweir-{plain}"
    return f"pgweir-{plain or 'cluster'}-{hashlib.sha256(cluster.encode()).hexdigest()[:8]}"


def tell_time(moment: datetime) -> str:
    """As Kubernetes writes times: its MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _put_word(changed: Json, node: str | None) -> None:
    """Write down which node is being promoted, None for none."""
    notes = changed["metadata"].setdefault("annotations", {})
    if node is None:
        notes.pop(_WORD, None)
    else:
        notes[_WORD] = node


def _without_notice(changed: Json) -> Json:
    """The annotations of an object, from now on without a notice and what was answered to it."""
    notes: Json = changed["metadata"].get("annotations") or {}
    changed["metadata"]["annotations"] = notes
    for key in [key for key in notes if key == _NOTICE or key.startswith(_ANSWER)]:
        del notes[key]
    return notes


def _is_over(since: object, lasts_s: int) -> bool:
    try:
        began = datetime.fromisoformat(str(since))
        return datetime.now(UTC) >= began + timedelta(seconds=lasts_s)
    except (ValueError, TypeError):
        return False
