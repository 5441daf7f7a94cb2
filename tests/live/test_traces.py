"""Statements that belong to a recorded trace become spans of it, at a real OTLP receiver."""

import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver:
    """Takes spans as a collector does, over OTLP/HTTP."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        self.spans: list[Any] = []
        self.headers: list[dict[str, str]] = []
        received = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                received.headers.append(dict(self.headers))
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        received.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    traces = {"endpoint": receiver.endpoint, "headers": {"x-tenant": "shop"}}
    databases = {
        "one": {"cluster": "main", "dbname": DATABASE, "pool_size": 1},
        "late": {"cluster": "main", "dbname": DATABASE, "connect_query": "SELECT pg_sleep(0.2)"},
    }
    config = configuration(pg18, traces=traces, databases=databases)
    with running(config, tmp_path_factory.mktemp("traces")) as weir:
        yield weir


def traced(statement: str, flags: str = "01") -> bytes:
    return f"{statement} /*traceparent='00-{TRACE}-{SPAN}-{flags}'*/".encode()


def parts_of(weir: Pgweir, receiver: Receiver, verb: str) -> dict[str, Any]:
    """The spans within the one of the only statement with this verb, by name, in their order."""
    weir.wait_until(lambda: bool(receiver.named(verb)))
    (whole,) = receiver.named(verb)
    parts = [span for span in receiver.spans if span.parent_span_id == whole.span_id]
    assert parts[0].start_time_unix_nano == whole.start_time_unix_nano
    assert parts[-1].end_time_unix_nano == whole.end_time_unix_nano
    for one, next_one in itertools.pairwise(parts):
        assert one.end_time_unix_nano == next_one.start_time_unix_nano
    return {span.name: span for span in parts}


def attributes_of(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def test_a_traced_statement_is_a_span_of_its_trace(weir: Pgweir, receiver: Receiver) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("SELECT 1 AS untraced")
        client.execute(traced("SELECT 2 AS unrecorded", "00"))
        client.execute(traced("SELECT 'hush' AS recorded FROM generate_series(1, 3)"))
    weir.wait_until(lambda: bool(receiver.named("SELECT")) and bool(receiver.named("server")))
    (span,) = receiver.named("SELECT")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    known = attributes_of(span)
    assert (known["db.namespace"], known["pgweir.node"], known["db.response.returned_rows"]) == (
        DATABASE,
        "db1",
        3,
    )
    assert "recorded" in known["db.query.text"]
    assert "hush" not in str(receiver.spans)


def test_a_statement_that_finds_all_ready_has_only_its_time_at_the_server(
    weir: Pgweir, receiver: Receiver
) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("SELECT 1")
        client.execute(traced("VALUES (1)"))
    assert list(parts_of(weir, receiver, "VALUES")) == ["server"]


def test_the_wait_for_others_is_a_span(weir: Pgweir, receiver: Receiver) -> None:
    with (
        psycopg.connect(weir.dsn(database="one")) as holder,
        psycopg.connect(weir.dsn(database="one"), autocommit=True) as client,
    ):
        holder.execute("SELECT 1")
        asks = threading.Thread(target=client.execute, args=(traced("TABLE pg_am"),))
        asks.start()
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="waiting") == 1)
        time.sleep(0.1)  # a wait that can be told from what comes after it
        holder.rollback()
        asks.join()
    parts = parts_of(weir, receiver, "TABLE")
    assert list(parts) == ["wait", "server"]
    assert _seconds(parts["wait"]) >= 0.1


def test_opening_a_connection_is_its_checkout_and_no_wait(weir: Pgweir, receiver: Receiver) -> None:
    with (
        psycopg.connect(weir.dsn(database="late")) as holder,
        psycopg.connect(weir.dsn(database="late"), autocommit=True) as client,
    ):
        holder.execute("SELECT 1")
        client.execute(traced("EXPLAIN SELECT 1"))
    parts = parts_of(weir, receiver, "EXPLAIN")
    assert list(parts)[-2:] == ["checkout", "server"]
    checkout = parts["checkout"]
    assert 200 <= attributes_of(checkout)["pgweir.opening_ms"] <= _seconds(checkout) * 1e3 + 1
    assert attributes_of(checkout)["server.address"] == "db1"


def test_bringing_settings_is_a_part_of_the_checkout(weir: Pgweir, receiver: Receiver) -> None:
    with (
        psycopg.connect(weir.dsn(database="one"), autocommit=True) as client,
        psycopg.connect(weir.dsn(database="one"), autocommit=True) as other,
    ):
        client.execute("SET work_mem = '7MB'")
        other.execute("SELECT 1")
        client.execute(traced("SHOW work_mem"))
    parts = parts_of(weir, receiver, "SHOW")
    assert list(parts)[-2:] == ["checkout", "server"]
    known = attributes_of(parts["checkout"])
    assert known["pgweir.preparing_ms"] > 0
    assert known["pgweir.opening_ms"] == 0


def _seconds(span: Any) -> float:
    taken_ns: int = span.end_time_unix_nano - span.start_time_unix_nano
    return taken_ns / 1e9


def test_what_failed_is_marked(weir: Pgweir, receiver: Receiver) -> None:
    with (
        psycopg.connect(weir.dsn(), autocommit=True) as client,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        client.execute(traced("UPDATE nowhere SET a = 1"))
    weir.wait_until(lambda: bool(receiver.named("UPDATE")))
    (span,) = receiver.named("UPDATE")
    assert (span.status.code, attributes_of(span)["error.type"]) == (2, "42P01")


def test_headers_are_sent_with_them(weir: Pgweir, receiver: Receiver) -> None:
    weir.wait_until(lambda: weir.metric("pgweir_spans_total", result="sent") > 0)
    lowered = [{key.lower(): value for key, value in each.items()} for each in receiver.headers]
    assert all(each["x-tenant"] == "shop" for each in lowered)
