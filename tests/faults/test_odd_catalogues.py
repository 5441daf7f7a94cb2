"""A node that answers what was not asked costs its catalogue, and a line that says so."""

import asyncio
import logging
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.cluster import DIALLING_FAILURES, NodeAddress, ProbeLogin
from proxy.cluster.catalogue import CatalogueRows, OddAnswerError, SuspectRows, ask
from proxy.workers.catalogues import Catalogues
from proxy.workers.rereading import AGAIN_S, pause_after
from proxy.workers.suspicion import Suspicion
from tests.faults.raw_client import message
from tests.faults.wire import Script, Scripted, Wire, complete, ready, wire_to

Column = tuple[int, bytes]

# Types of PostgreSQL's, and one that it does not have.
BOOL, INT4, TEXT, UNKNOWN = 16, 23, 25, 99_999
NUMBER: Column = (INT4, struct.pack("!i", 1))
WORD: Column = (TEXT, b"a")

ODD = {
    "one column": (NUMBER,),
    "too many": (WORD, WORD, WORD, (BOOL, b"\1"), WORD),
    "another type": (WORD, WORD, NUMBER, (BOOL, b"\1")),
    "no text of its encoding": (WORD, WORD, (TEXT, b"\xff"), (BOOL, b"\1")),
    "a short number": (WORD, WORD, WORD, (INT4, b"\1")),
    "a long number": (WORD, WORD, WORD, (INT4, bytes(5))),
    "a type nobody knows": (WORD, WORD, WORD, (UNKNOWN, b"\1")),
    "no columns": (),
}


def answers_everything_with(*columns: Column) -> Script:
    """A server whose every statement has one row, this one."""
    described = struct.pack("!H", len(columns)) + b"".join(
        b"x\0" + struct.pack("!ihihih", 0, 0, kind, -1, -1, 1) for kind, _ in columns
    )
    values = struct.pack("!H", len(columns)) + b"".join(
        struct.pack("!i", len(value)) + value for _, value in columns
    )
    replies = {
        b"P": message(b"1", b""),
        b"D": message(b"t", bytes(2)) + message(b"T", described),
        b"B": message(b"2", b""),
        b"E": message(b"D", values) + complete("SELECT 1"),
        b"C": message(b"3", b""),
        b"S": ready(),
    }

    def script(server: Scripted) -> None:
        server.log_in()
        while (asked := server.read()) is not None:
            server.send(replies.get(asked.kind, b""))

    return script


def ask_wire(wire: Wire) -> list[object]:
    return list(
        asyncio.run(
            ask(
                NodeAddress("n1", wire.host, wire.port),
                ProbeLogin("m"),
                20.0,
                (SuspectRows, CatalogueRows),
            )
        )
    )


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD)
def test_an_odd_answer_is_the_nodes_fault(columns: tuple[Column, ...]) -> None:
    with (
        wire_to(("", 0), "nobody", answers_everything_with(*columns)) as wire,
        pytest.raises(DIALLING_FAILURES),
    ):
        ask_wire(wire)


def test_a_function_that_is_gone_meanwhile_has_no_text() -> None:
    with pytest.raises(OddAnswerError, match="row 0, column 2: Input should be a valid string"):
        SuspectRows.read([("f", "sql", None, False)], [], [])


def test_a_node_that_answers_oddly_is_not_asked_again_at_once() -> None:
    assert pause_after(OddAnswerError("")) > AGAIN_S


class Line:
    """As much of a line as is told what functions leave."""

    clients = 1
    suspects: object = None


async def test_what_functions_leave_is_not_known_of_a_node_that_answers_oddly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    async def answer_oddly(*_: object) -> Any:
        asked.set()
        return [SuspectRows.read([(1,)], [], [])]

    suspicion = Suspicion(
        lambda _: NodeAddress("n1", "h1"),
        lambda _, dbname: ProbeLogin("m", database=dbname),
        Catalogues(lambda: 0.0, answer_oddly),
        lambda: 0.0,
    )
    line: Any = Line()
    policy: Any = SimpleNamespace(
        server_reset="smart", pool_mode="transaction", cluster="main", dbname="db"
    )
    with caplog.at_level(logging.INFO, "pgweir"):
        suspicion.watch(policy, line)
        await asked.wait()
        tasks = suspicion.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert "what functions leave in a session is not seen" in record.message
    assert "row 0" in record.__dict__["facts"]["reason"]
