"""Spans of statements that belong to a recorded trace, for an OpenTelemetry collector.

Only what a client marked is exported: a `traceparent` in its comment that says it is sampled. Spans
stand in a bounded queue and are sent, once a second, by a short-lived thread: a collector that is
slow or gone costs spans, which are counted, and nothing else. Needs the extra `otel`: who uses this
module looks first, and imports it by its name.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from proxy.relay import Ended
from proxy.telemetry.counting import Tally
from proxy.telemetry.fingerprints import Fingerprint
from proxy.telemetry.traceparent import Traceparent

MAX_QUEUED = 10_000
MOST_AT_ONCE = 1000
TIMEOUT_S = 5

_log = logging.getLogger("pgweir.traces")


class SpanExport:
    """Makes and sends spans.

    endpoint: where OTLP over HTTP is taken, such as http://127.0.0.1:4318/v1/traces. headers: sent
    with it. in_thread: runs a function where it may block. counts: by result, see `SPAN_RESULTS`.
    today: seconds since the Unix epoch.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        in_thread: Callable[..., Awaitable[Any]],
        *,
        version: str,
        counts: Tally[str],
        today: Callable[[], float] = time.time,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._counts = counts
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, headers=dict(headers), timeout=TIMEOUT_S
        )
        # The SDK reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES as well.
        self._resource = Resource.create({"service.name": "pgweir", "service.version": version})
        self._ids = RandomIdGenerator()
        self._in_thread = in_thread
        self._today = today
        self._max_queued = max_queued
        self._queue: deque[Any] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._has_failed = False

    def add(
        self,
        trace: Traceparent,
        whose: Mapping[str, object],
        fingerprint: Fingerprint,
        ended: Ended,
    ) -> None:
        """Queue the spans of a statement that has just ended, if its trace is recorded.

        whose: database, user, node and what else is known of client and node.
        """
        if not trace.is_sampled:
            return
        if len(self._queue) >= self._max_queued:
            self._counts.add("dropped")
            return
        end_ns = int(self._today() * 1e9)
        start_ns = end_ns - int(ended.spent_s * 1e9)
        opening_ns = start_ns + int((ended.waited_s - ended.opening_s) * 1e9)
        began_ns = start_ns + int((ended.waited_s + ended.preparing_s) * 1e9)
        verb = fingerprint.text.split(" ", 1)[0].upper()
        times_ns = (start_ns, end_ns)
        whole = self._span(trace, trace.span_id, verb, times_ns, ended=ended, attributes={
            "db.system.name": "postgresql",
            "db.namespace": str(whose["database"]),
            "db.query.text": fingerprint.text[:4096],
            "db.query.summary": verb,
            "db.response.returned_rows": ended.rows,
            "enduser.id": str(whose["user"]),
            "client.address": str(whose["addr"]),
            "pgweir.node": str(whose["node"]),
            "pgweir.role": str(whose["role"]),
            "pgweir.fingerprint": fingerprint.id,
        })  # fmt: skip
        self._queue.append(whole)
        within = whole.context.span_id
        at = {"server.address": str(whose["node"])}
        if opening_ns > start_ns:
            self._queue.append(self._span(trace, within, "wait", (start_ns, opening_ns)))
        if began_ns > opening_ns:
            made: dict[str, str | float] = {
                **at,
                "pgweir.opening_ms": round(ended.opening_s * 1e3, 3),
                "pgweir.preparing_ms": round(ended.preparing_s * 1e3, 3),
            }
            self._queue.append(
                self._span(trace, within, "checkout", (opening_ns, began_ns), attributes=made)
            )
        self._queue.append(self._span(trace, within, "server", (began_ns, end_ns), attributes=at))

    def _span(
        self,
        trace: Traceparent,
        parent: int,
        name: str,
        times_ns: tuple[int, int],
        *,
        ended: Ended | None = None,
        attributes: Mapping[str, str | int | float] | None = None,
    ) -> Any:
        flags = TraceFlags(TraceFlags.SAMPLED)
        context = SpanContext(
            trace.trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=flags
        )
        above = SpanContext(trace.trace_id, parent, is_remote=True, trace_flags=flags)
        status = Status(StatusCode.UNSET)
        known = dict(attributes or {})
        if ended is not None and ended.sqlstate is not None:
            status = Status(StatusCode.ERROR, f"SQLSTATE {ended.sqlstate}")
            known["error.type"] = known["db.response.status_code"] = ended.sqlstate
        return ReadableSpan(
            name,
            context=context,
            parent=above,
            resource=self._resource,
            attributes=known,
            kind=SpanKind.CLIENT if ended is not None else SpanKind.INTERNAL,
            status=status,
            start_time=times_ns[0],
            end_time=times_ns[1],
        )

    def tick(self) -> None:
        """Begin to send what is queued, unless that is under way."""
        if self._queue and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Send what is left, once; what cannot be sent is lost."""
        if self._sending is not None:
            await self._sending
        if self._queue:
            await self._send()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    async def _send(self) -> None:
        spans = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]
        try:
            is_sent = (await self._in_thread(self._exporter.export, spans)).name == "SUCCESS"
        except Exception as failure:  # noqa: BLE001 -- another's code, over a network
            _log.debug("export raised", exc_info=failure)
            is_sent = False
        self._sending = None
        self._counts.add("sent" if is_sent else "failed", len(spans))
        if not is_sent and not self._has_failed:
            _log.warning("spans cannot be sent", extra={"facts": {"spans": len(spans)}})
        self._has_failed = not is_sent
