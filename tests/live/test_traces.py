"""Statements that belong to a recorded trace become spans of it, at a real OTLP receiver."""

import threading
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
    config = configuration(pg18, traces=traces)
    with running(config, tmp_path_factory.mktemp("traces")) as weir:
        yield weir


def traced(statement: str, flags: str = "01") -> bytes:
    return f"{statement} /*traceparent='00-{TRACE}-{SPAN}-{flags}'*/".encode()


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


def test_its_time_at_the_server_is_a_span_within(weir: Pgweir, receiver: Receiver) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute(traced("VALUES (1)"))
    weir.wait_until(lambda: bool(receiver.named("VALUES")))
    (whole,) = receiver.named("VALUES")
    within = [span for span in receiver.spans if span.parent_span_id == whole.span_id]
    assert [span.name for span in within][-1] == "server"
    assert within[-1].end_time_unix_nano == whole.end_time_unix_nano
    assert whole.start_time_unix_nano <= within[-1].start_time_unix_nano


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
