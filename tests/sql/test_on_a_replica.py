"""What is taken for a read runs on a real replica, and answers there what the primary answers."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import ExecStatus, TransactionStatus

from proxy.sql import Catalogue, Classifier, builtin_volatility
from tests.fixtures.postgres import Postgres, PostgresCluster
from tests.sql.statements import READS

# Answers that differ from one moment to the next, wherever they are asked for.
FLEETING = ("now", "clock_", "random", "gen_random", "timeofday", "current_", "local", "analyze")
FLEETING_FUNCTIONS = {"now", "transaction_timestamp", "statement_timestamp", "uuidv4", "uuidv7"}

Answer = list[tuple[bytes | None, ...]]


class Session:
    """A connection, by the simple protocol."""

    def __init__(self, node: Postgres) -> None:
        self._connection = psycopg.connect(node.superuser_dsn, autocommit=True)
        self._connection.pgconn.exec_(b"SET extra_float_digits = 1")

    def run(self, text: str) -> Answer:
        """Give the rows of the last statement, or what the error says as the only row."""
        link = self._connection.pgconn
        link.send_query(text.encode())
        answer: Answer = []
        while (result := link.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                code, message = result.error_field(67), result.error_field(77)
                answer = [(b"ERROR", code, message)]
            elif result.status == ExecStatus.COPY_OUT:
                answer = []
                while (row := link.get_copy_data(0))[0] > 0:
                    answer.append((bytes(row[1]),))
            elif result.status == ExecStatus.COPY_IN:
                link.put_copy_end(b"not now")
            else:
                answer = [
                    tuple(result.get_value(row, column) for column in range(result.nfields))
                    for row in range(result.ntuples)
                ]
        if link.transaction_status != TransactionStatus.IDLE:
            link.exec_(b"ROLLBACK")
        return sorted(answer, key=repr)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def sessions(pg_replicated: PostgresCluster) -> Iterator[tuple[Session, Session]]:
    """One on the primary and one on a replica that has all that the primary has."""
    pg_replicated.until_caught_up()
    both = Session(pg_replicated.primary), Session(pg_replicated.replicas[0])
    yield both
    for session in both:
        session.close()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(Catalogue(builtin_volatility))


def is_error(answer: Answer) -> bool:
    return any(row[:1] == (b"ERROR",) for row in answer)


@pytest.mark.parametrize("text", READS)
def test_reads_run_on_a_replica(sessions: tuple[Session, Session], text: str) -> None:
    primary, replica = (session.run(text) for session in sessions)
    assert not is_error(replica), replica
    if not any(word in text for word in FLEETING):
        assert replica == primary


@pytest.mark.parametrize(
    "text",
    [
        "insert into posts default values",
        "explain analyze insert into posts default values",
        "select * from posts for update",
        "select nextval('posts_id_seq')",
        "select txid_current()",
        "begin isolation level serializable, read only; select 1",
    ],
)
def test_a_replica_refuses_others(sessions: tuple[Session, Session], text: str) -> None:
    """So that it is worth something that it refuses none of the above."""
    assert is_error(sessions[1].run(text))


def test_functions_answer_alike_on_both(
    sessions: tuple[Session, Session], classifier: Classifier, pg_replicated: PostgresCluster
) -> None:
    """Every function of PostgreSQL that takes no argument, or takes null ones."""
    functions = pg_replicated.primary.fetch(
        """
        SELECT DISTINCT quote_ident(proname) || '(' ||
               array_to_string(array_fill('NULL'::text, ARRAY[pronargs::int]), ', ') || ')', proname
        FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
          AND (pronargs = 0 OR NOT proisstrict AND pronargs < 4)
          AND prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
        """
    )
    told_apart = []
    read = 0
    for call, name in functions:
        text = f"SELECT pg_catalog.{call}"
        if not classifier.classify(text.encode())[1].reads_only or name in FLEETING_FUNCTIONS:
            continue
        read += 1
        primary, replica = (session.run(text) for session in sessions)
        if primary != replica and not name.startswith(("clock_", "random", "timeofday", "gen_")):
            told_apart.append((text, primary, replica))
    assert told_apart == []
    assert read > 100


def test_catalogues_and_views_answer_alike_on_both(
    sessions: tuple[Session, Session], classifier: Classifier, pg_replicated: PostgresCluster
) -> None:
    names = pg_replicated.primary.fetch(
        """
        SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
        WHERE relkind IN ('r', 'v') AND relnamespace::regnamespace::text
              IN ('pg_catalog', 'information_schema')
        """
    )
    told_apart = []
    read = 0
    for (name,) in names:
        text = f"SELECT * FROM {name}"
        if not classifier.classify(text.encode())[1].reads_only:
            continue
        read += 1
        primary, replica = (session.run(text) for session in sessions)
        if primary != replica or is_error(replica):
            told_apart.append((name, [row for row in replica if row not in primary][:2]))
    assert told_apart == []
    assert read > 100
