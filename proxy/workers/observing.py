"""What an operator is shown of one process: the last minutes, the top statements, who is pinned.

The worker hands over what the relay tells; what is shown is put together only when somebody looks.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

import proxy
from proxy.client.door import facts_of
from proxy.cluster import ClusterView
from proxy.config import AuditClass, Config, Traces
from proxy.console import Picture, Pinned
from proxy.pool import Reservoir
from proxy.relay import Client, Ended, Relay, Server
from proxy.tasks import in_thread
from proxy.telemetry import (
    KEPT_POINTS,
    AuditLog,
    Deed,
    Event,
    Figures,
    Fingerprints,
    Histogram,
    History,
    QueryRecord,
    RecentEvents,
    SlowLog,
    Span,
    Tally,
    TopQueries,
    Totals,
    events_of_all,
    latency_of,
    points_of,
    queries_of_all,
    spans_of_all,
    traceparent_of,
)
from proxy.workers.reading import read_histogram

if TYPE_CHECKING:
    from proxy.telemetry.spans import SpanExport

SHOWN_QUERIES = 50
SHOWN_EVENTS = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """What one process has observed, or several together. process: its id."""

    process: int
    spans: Sequence[Span]
    queries: Sequence[QueryRecord]
    pinned: Sequence[Pinned]
    events: Sequence[Event]

    @property
    def until_s(self) -> float:
        """The moment of the monotonic clock up to which there are spans."""
        return self.spans[-1].clock_s if self.spans else 0.0

    def followed_by(self, later: "Seen") -> "Seen":
        """What the same process says later, with its past."""
        past = [span for span in self.spans if span.clock_s > later.until_s - KEPT_POINTS]
        new = [span for span in later.spans if span.clock_s > self.until_s]
        return replace(later, spans=[*past, *new])


def seen_by_all(own: Seen, others: Sequence[Seen]) -> Seen:
    """What several processes have observed as one."""
    if not others:
        return own
    every = [own, *others]
    return Seen(
        own.process,
        spans_of_all(own.spans, [each.spans for each in others]),
        queries_of_all(each.queries for each in every),
        sorted((one for each in every for one in each.pinned), key=lambda one: one.since_s),
        events_of_all([each.events for each in every]),
    )


@dataclass(frozen=True, slots=True)
class _Pin:
    since_s: float
    reasons: tuple[str, ...]


class Observer:
    """Remembers what happened, and draws the picture of it.

    config: the configuration in force. clock: seconds, monotonic. today: seconds since the Unix
    epoch.
    """

    def __init__(
        self,
        relay: Relay,
        reservoir: Reservoir,
        config: Callable[[], Config],
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self.queries = TopQueries()
        self.events = RecentEvents()
        self.audit = AuditLog(in_thread, today)
        self._relay = relay
        self._reservoir = reservoir
        self._config = config
        self._clock = clock
        self._today = today
        self._started_s = today()
        self._history = History()
        self._fingerprints = Fingerprints()
        self._slow = SlowLog(clock)
        self._pins: dict[int, _Pin] = {}
        self._traces: Traces | None = None
        self._spans: SpanExport | None = None
        self.span_counts: Tally[str] = Tally("failed")
        self._adopt_traces(config().traces)

    def start(self) -> None:
        """Begin to keep events."""
        self.events.attach()

    async def stop(self) -> None:
        """Keep them no longer, and write what is still to be written."""
        self.events.detach()
        await self.audit.close(self._config().audit)
        if self._spans is not None:
            await self._spans.close()

    # --- what the relay tells ------------------------------------------------------------------

    def statement_ended(self, client: Client, server: Server, ended: Ended) -> None:
        """A statement was slow, or is one of a sample: count it, and log it if it is to be."""
        pool = server.pool
        settings: Mapping[str, str] = client.settings
        fingerprint = self._fingerprints.of(ended.text, is_cut=ended.is_cut, settings=settings)
        self.queries.add(pool.database, fingerprint, pool.node, pool.role, ended)
        policy = pool.owner.policy
        is_slow = 0 < policy.log_min_duration <= ended.spent_s
        audit = self._config().audit if policy.audited else None
        if not is_slow and audit is None and not policy.traced:
            return
        trace = traceparent_of(ended.text)
        traceparent = None if trace is None else trace.text
        whose = facts_of(client, client.login)
        if "application_name" in settings:
            whose["application_name"] = settings["application_name"]
        whose |= {"node": pool.node, "role": pool.role}
        if is_slow:
            text = ended.text if self._config().log.literals else b""
            self._slow.write(ended, whose, fingerprint, text, traceparent)
        if audit is not None:
            self.audit.add(audit, whose, fingerprint, ended, traceparent)
        if trace is not None and self._spans is not None:
            self._spans.add(trace, whose, fingerprint, ended)

    @property
    def keeps_audit(self) -> bool:
        """Does anybody want to know of what is no statement?"""
        return self._config().audit is not None

    def note(
        self,
        audit_class: AuditClass,
        kind: str,
        whose: Mapping[str, object],
        facts: Mapping[str, object],
    ) -> None:
        """Something happened that is no statement of the data plane, for the audit log.

        whose: addr, and of database, user and the like what is known.
        """
        audit = self._config().audit
        if audit is not None:
            self.audit.note(audit, whose, Deed(kind, frozenset({audit_class}), ()), facts)

    def client_pinned(self, client: Client, reasons: tuple[str, ...]) -> None:
        """A client keeps its server connection for these reasons; for none, no longer."""
        if not reasons:
            self._pins.pop(client.pid, None)
            return
        known = self._pins.get(client.pid)
        since_s = self._today() if known is None else known.since_s
        self._pins[client.pid] = _Pin(since_s, reasons)

    def client_gone(self, client: Client) -> None:
        """A client has left."""
        self._pins.pop(client.pid, None)

    # --- time ----------------------------------------------------------------------------------

    def tick(self, views: Sequence[ClusterView]) -> None:
        """Once a second: note how far the counters are. Costs a microsecond for each pool."""
        self._slow.tick()
        self.audit.tick(self._config().audit)
        self._adopt_traces(self._config().traces)
        if self._spans is not None:
            self._spans.tick()
        relay = self._relay
        durations = waits = read_histogram(relay.waits)
        durations = Histogram(waits.bounds_s, (0,) * len(waits.counts), 0.0)
        queries = transactions = waiting = 0
        for line in self._reservoir.lines:
            queries += line.query_count
            transactions += line.transaction_count
            waiting += line.waiting
            durations = durations.plus(read_histogram(line.duration_histogram))
        for line in self._reservoir.reads:
            # What was routed is counted with its client's line; how long it took, here.
            durations = durations.plus(read_histogram(line.duration_histogram))
        self._history.add(
            Totals(
                at_s=self._today(),
                clock_s=self._clock(),
                queries=queries,
                transactions=transactions,
                errors=sum(relay.errors.values()),
                received_bytes=relay.received_bytes,
                sent_bytes=relay.sent_bytes,
                clients=len(relay.clients),
                waiting=waiting,
                durations=durations,
                waits=waits,
                lag_s={
                    (view.name, node.name): node.lag_s
                    for view in views
                    for node in view.nodes
                    if node.lag_s is not None
                },
            )
        )

    def _adopt_traces(self, traces: Traces | None) -> None:
        """Export to where the configuration says now; what is queued for elsewhere is lost."""
        if traces == self._traces:
            return
        self._traces = traces
        self._spans = None
        if traces is not None:
            headers = {name: str(value) for name, value in traces.headers.items()}
            # An optional part: the configuration has looked whether it is there.
            spans = import_module("proxy.telemetry.spans")
            self._spans = spans.SpanExport(
                traces.endpoint,
                headers,
                in_thread,
                version=proxy.__version__,
                counts=self.span_counts,
            )

    # --- what is shown -------------------------------------------------------------------------

    def pinned(self) -> list[Pinned]:
        """The clients that keep their server connection, the longest first."""
        found = []
        for client in self._relay.clients.values():
            if client.is_pinned and (pin := self._pins.get(client.pid)) is not None:
                node = "-" if client.server is None else client.server.pool.node
                found.append(
                    Pinned(
                        client.line.database,
                        client.line.user,
                        client.address,
                        node,
                        pin.reasons,
                        pin.since_s,
                    )
                )
        return sorted(found, key=lambda pinned: pinned.since_s)

    def seen(self, after_s: float | None = None) -> Seen:
        """What this process has observed; of the past, what came after a moment, or all."""
        return Seen(
            os.getpid(),
            self._history.spans(-math.inf if after_s is None else after_s),
            self.queries.top(SHOWN_QUERIES),
            self.pinned(),
            self.events.newest(SHOWN_EVENTS),
        )

    def picture(
        self,
        *,
        figures: Figures,
        seen: Seen,
        views: Sequence[ClusterView],
        not_ready: str | None,
        is_draining: bool,
        warnings: Sequence[str],
    ) -> Picture:
        """All there is to show now. seen: by all processes."""
        return Picture(
            at_s=self._today(),
            started_s=self._started_s,
            clock_s=self._clock(),
            not_ready=not_ready,
            is_draining=is_draining,
            figures=figures,
            views=views,
            points=points_of(seen.spans),
            latency=latency_of(seen.spans),
            queries=seen.queries[:SHOWN_QUERIES],
            pinned=seen.pinned,
            events=seen.events[:SHOWN_EVENTS],
            warnings=warnings,
        )
