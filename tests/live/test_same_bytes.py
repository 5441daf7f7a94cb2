"""The same conversation, direct and through the proxy, gives the same bytes.

Each conversation is said in one write, message by message, and byte by byte, to a warm pool of two
server connections; in pieces instead of bytes where only what becomes of its messages is another
than in transaction mode, and not how they are read. What is compared is every message up to the
answer to a last statement, which all conversations end with; a conversation must therefore end
outside of an aborted transaction.
"""

import itertools
import random
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Address,
    Message,
    Wire,
    address_of,
    bind,
    close_portal,
    close_statement,
    columns_of,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    message,
    messages_in,
    parse,
    query,
    rows_of,
    run,
    text,
)

LAST_WORD = b"the end of it"
THE_END = query("SELECT 'the end of it'")
# Longer ones are cut at random places instead of everywhere.
MOST_BYTES_ONE_BY_ONE = 700

INT4 = 23


@dataclass(frozen=True)
class Conversation:
    """What is said; and where, when it cannot be said everywhere."""

    name: str
    said: bytes
    only_session: bool = False


def say(name: str, *said: bytes, only_session: bool = False) -> Conversation:
    return Conversation(name, b"".join(said), only_session)


def queries(*sql: str) -> bytes:
    return b"".join(query(each) for each in sql)


SIMPLE = [
    say("one row", query("SELECT 1")),
    say("no rows", query("SELECT 1 WHERE false")),
    say("no columns", query("SELECT FROM same")),
    say("several statements", query("SELECT 1; SELECT 'two', 2; UPDATE same SET v = v; SELECT 3")),
    say("queries one after another", queries("SELECT 1", "SELECT 2", "SELECT 3")),
    say("empty", query("")),
    say("white space", query(" \n\t ")),
    say("semicolons", query(";;;")),
    say("a comment", query("-- nothing")),
    say("empty between others", queries("SELECT 1", "", "SELECT 2")),
    say("syntax error", query("SELEKT 1")),
    say("error in the second of three", query("SELECT 1; SELECT 1/0; SELECT 3")),
    say("error with detail", query("INSERT INTO same VALUES (1, 'again')")),
    say("unterminated quote", query("SELECT 'oh")),
    say("no such table", query("SELECT * FROM nowhere")),
    say("null and text and numbers", query("SELECT NULL, 'ä', 1.5, true, '{1,2}'::int[]")),
    say("all rows of a table", query("SELECT * FROM same ORDER BY id")),
    say("long text", query(f"SELECT length('{'x' * 20_000}')")),
    say("a large row", query("SELECT repeat('y', 100000)")),
    say("many rows", query("SELECT i, repeat('z', 50) FROM generate_series(1, 3000) i")),
    say("tags", queries("INSERT INTO same VALUES (9, 'n')", "UPDATE same SET v = 'u'",
                        "DELETE FROM same WHERE id = 9", "SELECT count(*) FROM same")),
    say("notice", query("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")),
    say("warning with all fields", query(
        "DO $$ BEGIN RAISE WARNING 'w' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01ABC'; END $$")),
    say("notices between rows", query(
        "SELECT 1; DO $$ BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; END $$; SELECT 2")),
    say("raised error", query("DO $$ BEGIN RAISE 'no' USING ERRCODE = 'ZZ123'; END $$")),
    say("time zone", queries("SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone",
                             "SELECT timestamptz '2020-01-01 00:00Z'", "RESET TimeZone")),
    say("date style", queries("SET DateStyle = 'German'", "SELECT date '2020-02-03'",
                              "SET DateStyle TO DEFAULT", "SELECT date '2020-02-03'")),
    say("application name", queries("SET application_name = 'talker'", "SHOW application_name")),
    say("client encoding", query("SET client_encoding = 'LATIN1'"),
        message(b"Q", b"SELECT '\xe4', length('\xe4')\0"), query("RESET client_encoding")),
    say("setting within a transaction", queries(
        "BEGIN", "SET LOCAL TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "COMMIT", "SHOW TimeZone")),
    say("setting undone by a rollback", queries(
        "BEGIN", "SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "ROLLBACK", "SHOW TimeZone")),
    say("setting in a string of statements", query("SET TimeZone = 'Asia/Tokyo'; SHOW TimeZone")),
    say("invalid setting", query("SET TimeZone = 'Nowhere/Land'")),
    say("standard conforming strings", queries(
        "SET standard_conforming_strings = off", "SHOW standard_conforming_strings",
        "SET standard_conforming_strings = on")),
    say("reset all", queries("SET TimeZone = 'Asia/Tokyo'", "RESET ALL", "SHOW TimeZone")),
    say("discard all", queries("SET TimeZone = 'Asia/Tokyo'", "DISCARD ALL", "SHOW TimeZone")),
    say("deallocate all", query("DEALLOCATE ALL")),
    say("deallocate what is not there", query("DEALLOCATE nothing")),
    say("explain", query("EXPLAIN (COSTS OFF) SELECT 1")),
    say("notify without a listener", query("NOTIFY nobody")),
    say("unlisten", query("UNLISTEN *")),
]  # fmt: skip

BEGINNINGS = (
    "BEGIN", "begin;", " Begin ; ", "BEGIN WORK", "BEGIN TRANSACTION", "BEGIN;;",
    "BEGIN -- with a comment", "/* a comment */ BEGIN",
    "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE", "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
    "BEGIN NOT DEFERRABLE", "BEGIN READ ONLY, READ WRITE",
    "START TRANSACTION", "start transaction read only",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
    "START TRANSACTION ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE;",
)  # fmt: skip

NOT_BEGINNINGS = (
    "BEGIN READ", "START", "BEGIN ISOLATION LEVEL SNAPSHOT", "BEGIN,", "BEGIN READ ONLY,",
    "START TRANSACTION WORK", "BEGIN WORK TRANSACTION", "BEGIN 1", "BEGINNING", "COMMITTED",
    "ROLLBACK SLOWLY", "COMMIT AND", "END AND CHAIN", "COMMIT PREPARED 'none'",
    "ROLLBACK PREPARED 'none'", "ROLLBACK TO SAVEPOINT nowhere", "RELEASE nowhere",
    "SAVEPOINT alone", "PREPARE TRANSACTION 'none'",
)  # fmt: skip

ENDINGS = (
    "COMMIT", "commit ;", "END", "COMMIT WORK", "END TRANSACTION", "COMMIT AND NO CHAIN",
    "ROLLBACK", "ABORT", "rollback work;", "ROLLBACK TRANSACTION AND NO CHAIN", "ABORT WORK",
    "COMMIT -- with a comment", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
)  # fmt: skip

TRANSACTIONS = [
    *(say(f"begins with {sql!r}", queries(
        sql, "SHOW transaction_isolation", "SHOW transaction_read_only",
        "SHOW transaction_deferrable", "COMMIT")) for sql in BEGINNINGS),
    *(say(f"no beginning {sql!r}", queries(sql, "SELECT 1", "ROLLBACK")) for sql in NOT_BEGINNINGS),
    *(say(f"ends at once with {sql!r}", queries("BEGIN", sql, "ROLLBACK")) for sql in ENDINGS),
    *(say(f"ends with {sql!r}", queries(
        "BEGIN", "UPDATE same SET v = 'ended'", sql, "SELECT v FROM same ORDER BY id", "ROLLBACK"))
      for sql in ENDINGS),
    *(say(f"ends what never began with {sql!r}", queries(sql, "SELECT 1")) for sql in ENDINGS),
    *(say(f"ends after an error with {sql!r}", queries("BEGIN", "SELECT 1/0", "SELECT 1", sql,
                                                       "SELECT 2", "ROLLBACK")) for sql in ENDINGS),
    say("begins twice at once", queries("BEGIN", "BEGIN", "SELECT 1", "COMMIT")),
    say("begins twice", queries("BEGIN", "SELECT 1", "START TRANSACTION", "COMMIT")),
    say("begins twice and never does a thing", queries("BEGIN", "BEGIN READ ONLY", "COMMIT")),
    say("ends twice", queries("BEGIN", "SELECT 1", "COMMIT", "COMMIT")),
    say("nothing in it", queries("BEGIN", "COMMIT", "BEGIN", "ROLLBACK")),
    say("an empty query in it", queries("BEGIN", "", "COMMIT")),
    say("its first statement is wrong", queries("BEGIN", "SELEKT", "SELECT 1", "COMMIT")),
    say("error, then begin", queries("BEGIN", "SELECT 1/0", "BEGIN", "ROLLBACK")),
    say("all in one string", query("BEGIN; SELECT 1; COMMIT")),
    say("begins in a string", queries("BEGIN; SELECT 1", "SELECT 2", "COMMIT; SELECT 3")),
    say("ends in a string", queries("BEGIN", "SELECT 1; COMMIT; SELECT 2")),
    say("implicit transaction fails", query("INSERT INTO same VALUES (7, 'x'); SELECT 1/0"),
        query("SELECT count(*) FROM same")),
    say("begins in an implicit transaction", queries("SELECT 1; BEGIN; SELECT 2", "ROLLBACK")),
    say("savepoints", queries(
        "BEGIN", "SAVEPOINT a", "SELECT 1/0", "SELECT 1", "ROLLBACK TO SAVEPOINT a", "SELECT 2",
        "RELEASE a", "COMMIT")),
    say("rollback to a savepoint that is not there", queries(
        "BEGIN", "ROLLBACK TO SAVEPOINT a", "COMMIT")),
    say("first is rollback to", queries("BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "COMMIT")),
    say("read only refuses", queries("BEGIN READ ONLY", "DELETE FROM same", "ROLLBACK")),
    say("modes set inside", queries(
        "BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SHOW transaction_isolation",
        "COMMIT")),
    say("modes set too late", queries(
        "BEGIN", "SELECT 1", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK")),
    say("cursor", queries(
        "BEGIN", "DECLARE c CURSOR FOR SELECT * FROM same ORDER BY id", "FETCH 2 FROM c",
        "MOVE 1 FROM c", "FETCH ALL FROM c", "CLOSE c", "COMMIT")),
    say("prepared in a transaction", queries(
        "BEGIN", "PREPARE p(int) AS SELECT $1", "EXECUTE p(7)", "DEALLOCATE p", "COMMIT")),
    say("constraints", queries("BEGIN", "SET CONSTRAINTS ALL DEFERRED", "COMMIT")),
    say("listens and hears itself", queries(
        "BEGIN", "LISTEN here", "NOTIFY here, 'payload'", "UNLISTEN here", "COMMIT")),
]  # fmt: skip

EXTENDED = [
    say("unnamed", run("SELECT $1::int + 1", "41"), SYNC),
    say("without describe", parse("SELECT $1::text"), bind("x"), execute(), SYNC),
    say("parameter types", run("SELECT $1", "41", types=[INT4]), SYNC),
    say("binary", parse("SELECT $1::int, $2::text"),
        bind(b"\0\0\0\7", "t", formats=[1, 0], results=[1, 0]),
        describe_portal(), execute(), SYNC),
    say("null parameter", run("SELECT $1::int", None), SYNC),
    say("sync alone", SYNC, SYNC, SYNC),
    say("flush alone", FLUSH),
    say("flush after each", parse("SELECT 1"), FLUSH, bind(), FLUSH, describe_portal(), FLUSH,
        execute(), FLUSH, SYNC),
    say("parse alone", parse("SELECT 1"), SYNC),
    say("empty statement", run(""), SYNC),
    say("comment", run("-- nothing"), SYNC),
    say("describe statement", parse("SELECT $1::int AS a, $2 || 'x' AS b"), describe_statement(),
        SYNC),
    say("describe without columns", parse("UPDATE same SET v = $1"), describe_statement(),
        bind("w"), describe_portal(), execute(), SYNC),
    say("named", parse("SELECT $1::int", "s1"), SYNC, bind("1", name="s1"), execute(), SYNC,
        bind("2", name="s1"), describe_portal(), execute(), SYNC, close_statement("s1"), SYNC),
    say("named, described later", parse("SELECT $1::int AS n", "s2"), SYNC,
        describe_statement("s2"), SYNC, describe_statement("s2"), FLUSH, SYNC,
        close_statement("s2"), SYNC),
    say("two names, one text", parse("SELECT 5", "a"), parse("SELECT 5", "b"), SYNC,
        bind(name="a"), execute(), bind(name="b"), execute(), SYNC,
        close_statement("a"), SYNC, bind(name="b"), execute(), SYNC, bind(name="a"), SYNC,
        close_statement("b"), SYNC),
    say("one name, two texts", parse("SELECT 1", "t"), SYNC, close_statement("t"),
        parse("SELECT 'other'", "t"), SYNC, bind(name="t"), describe_portal(), execute(), SYNC,
        close_statement("t"), SYNC),
    say("one text, other types", parse("SELECT $1", "ti", [INT4]), parse("SELECT $1", "tt", [25]),
        describe_statement("ti"), describe_statement("tt"), SYNC, close_statement("ti"),
        close_statement("tt"), SYNC),
    say("duplicate name", parse("SELECT 1", "d"), SYNC, parse("SELECT 2", "d"), bind(name="d"),
        execute(), SYNC, bind(name="d"), execute(), SYNC, close_statement("d"), SYNC),
    say("duplicate name in one unit", parse("SELECT 1", "d"), parse("SELECT 2", "d"), SYNC,
        bind(name="d"), execute(), SYNC, close_statement("d"), SYNC),
    say("duplicate name in a transaction", query("BEGIN"), parse("SELECT 1", "d"), SYNC,
        parse("SELECT 2", "d"), SYNC, query("ROLLBACK"), bind(name="d"), execute(), SYNC,
        close_statement("d"), SYNC),
    say("unknown name", bind(name="never"), execute(), SYNC),
    say("unknown name described", describe_statement("never"), SYNC),
    say("unknown name that looks like ours", bind(name="_pgweir_1"), execute(), SYNC,
        describe_statement("_pgweir_1"), SYNC, close_statement("_pgweir_1"), SYNC),
    say("a name that looks like ours", parse("SELECT 9", "_pgweir_1"), SYNC,
        bind(name="_pgweir_1"), execute(), SYNC, close_statement("_pgweir_1"), SYNC,
        bind(name="_pgweir_1"), SYNC),
    say("close of what is not there", close_statement("never"), close_portal("never"), SYNC),
    say("close, then bind", parse("SELECT 1", "c"), close_statement("c"), bind(name="c"), SYNC),
    say("unnamed survives a sync", parse("SELECT $1::int"), SYNC, bind("3"), execute(), SYNC,
        bind("4"), execute(), SYNC),
    say("unnamed survives another statement's work", parse("SELECT $1::int"), SYNC,
        parse("SELECT 'named'", "n"), bind(name="n"), execute(), SYNC, bind("4"), execute(), SYNC,
        close_statement("n"), SYNC),
    say("unnamed is gone after a query", parse("SELECT 1"), SYNC, query("SELECT 2"), bind(), SYNC),
    say("unnamed is gone after BEGIN", parse("SELECT 1"), SYNC, query("BEGIN"), bind(), SYNC,
        query("ROLLBACK")),
    say("unnamed is gone after a failed parse", parse("SELECT 1"), SYNC, parse("SELEKT"), SYNC,
        bind(), SYNC),
    say("unnamed closed", parse("SELECT 1"), close_statement(), bind(), SYNC),
    say("unnamed described after a sync", parse("SELECT $1::int AS x"), SYNC, describe_statement(),
        SYNC),
    say("error in parse", parse("SELEKT"), bind(), execute(), SYNC),
    say("error in parse of a name", parse("SELEKT", "bad"), SYNC, bind(name="bad"), SYNC,
        parse("SELECT 1", "bad"), bind(name="bad"), execute(), SYNC, close_statement("bad"), SYNC),
    say("error in bind", parse("SELECT $1::int"), bind("x"), execute(), SYNC),
    say("error in execute", run("SELECT 1/$1::int", "0"), SYNC),
    say("too few parameters", parse("SELECT $1::int"), bind(), execute(), SYNC),
    say("too many parameters", parse("SELECT $1::int"), bind("1", "2"), execute(), SYNC),
    say("error in a pipeline", run("SELECT 1"), run("SELECT 1/0"), run("SELECT 2"), SYNC,
        run("SELECT 3"), SYNC),
    say("error in a pipeline with names", parse("SELECT 1", "p1"), bind(name="p1"), execute(),
        parse("SELEKT", "p2"), parse("SELECT 3", "p3"), SYNC,
        bind(name="p1"), execute(), SYNC, bind(name="p2"), SYNC, bind(name="p3"), SYNC,
        close_statement("p1"), SYNC),
    say("error before a close", parse("SELECT 1", "k"), SYNC, run("SELECT 1/0"),
        close_statement("k"), SYNC, bind(name="k"), execute(), SYNC, close_statement("k"), SYNC),
    say("error after a close", parse("SELECT 1", "k"), SYNC, close_statement("k"),
        run("SELECT 1/0"), SYNC, bind(name="k"), execute(), SYNC),
    say("errors in several units", run("SELECT 1/0"), SYNC, run("SELECT 1"), SYNC,
        parse("SELEKT"), SYNC, run("SELECT 2"), SYNC, bind(name="x"), SYNC),
    say("a query after an error is dropped", parse("SELEKT"), query("SELECT 1"), SYNC,
        query("SELECT 2")),
    say("a query ends a unit", run("SELECT 1"), query("SELECT 2"), run("SELECT 3"), SYNC),
    say("a pipeline is one transaction", run("INSERT INTO same VALUES (8, 'p')"),
        run("SELECT 1/0"), SYNC, run("SELECT count(*) FROM same"), SYNC),
    say("row limit", parse("SELECT generate_series(1, 5)"), bind(), execute(rows=2),
        execute(rows=2), execute(rows=2), SYNC),
    say("row limit, flushed", parse("SELECT generate_series(1, 5)"), bind(), execute(rows=2),
        FLUSH, execute(rows=9), FLUSH, SYNC),
    say("negative row limit", run("SELECT 1", rows=-1), SYNC),
    say("portal is gone after sync", parse("SELECT 1"), bind(portal="q"), execute("q"), SYNC,
        execute("q"), SYNC, close_portal("q"), SYNC),
    say("portals in a transaction", query("BEGIN"), parse("SELECT generate_series(1, 4)"),
        bind(portal="q"), execute("q", 2), SYNC, execute("q", 1), SYNC, describe_portal("q"),
        execute("q"), SYNC, close_portal("q"), execute("q"), SYNC, query("ROLLBACK")),
    say("portals side by side", query("BEGIN"), parse("SELECT generate_series(1, 4)", "g"),
        bind(name="g", portal="x"), bind(name="g", portal="y"), execute("x", 1), execute("y", 2),
        execute("x", 1), SYNC, query("COMMIT"), close_statement("g"), SYNC),
    say("duplicate portal", query("BEGIN"), parse("SELECT 1"), bind(portal="q"), bind(portal="q"),
        SYNC, query("ROLLBACK")),
    say("unknown portal", execute("never"), SYNC, describe_portal("never"), SYNC),
    say("portal run twice", run("UPDATE same SET v = v"), execute(), SYNC),
    say("two statements in one", parse("SELECT 1; SELECT 2"), bind(), execute(), SYNC),
    say("deallocate all", parse("SELECT 1", "g"), SYNC, query("DEALLOCATE ALL"), bind(name="g"),
        SYNC, parse("SELECT 1", "g"), SYNC, close_statement("g"), SYNC),
    say("deallocate by name", parse("SELECT 1", "g"), SYNC, query("DEALLOCATE g"), bind(name="g"),
        SYNC),
    say("deallocate by quoted name", parse("SELECT 1", "G g"), SYNC, query('DEALLOCATE "G g"'),
        bind(name="G g"), SYNC),
    say("deallocate by extended protocol", parse("SELECT 1", "g"), SYNC, run("DEALLOCATE g"), SYNC,
        bind(name="g"), SYNC),
    say("deallocate by extended protocol in a transaction", parse("SELECT 1", "g"), SYNC,
        query("BEGIN"), query("SELECT 1"), run("DEALLOCATE g"), SYNC, query("COMMIT"),
        bind(name="g"), SYNC),
    say("the same bad text again and again", *(
        parse("SELECT nope", f"x{i}") + bind(name=f"x{i}") + execute() + SYNC for i in range(4))),
    say("the same bad text without a name", *(run("SELECT nope") + SYNC for _ in range(4))),
    say("deallocate in a transaction", parse("SELECT 1", "g"), SYNC, query("BEGIN"),
        query("SELECT 1"), query("DEALLOCATE g"), bind(name="g"), SYNC, query("ROLLBACK")),
    say("deallocate at the start of a transaction", parse("SELECT 1", "g"), SYNC, query("BEGIN"),
        query("DEALLOCATE g"), query("COMMIT"), bind(name="g"), SYNC),
    say("deallocate in an aborted transaction", parse("SELECT 1", "g"), SYNC, query("BEGIN"),
        query("SELECT 1/0"), query("DEALLOCATE g"), query("ROLLBACK"), bind(name="g"), execute(),
        SYNC, close_statement("g"), SYNC),
    say("deallocate in an open unit", parse("SELECT 1", "g"), SYNC,
        run("INSERT INTO same VALUES (8, 'p')"), query("DEALLOCATE g"),
        run("SELECT count(*) FROM same"), SYNC, bind(name="g"), SYNC),
    say("deallocate in an open unit, flushed", parse("SELECT 1", "g"), SYNC,
        run("INSERT INTO same VALUES (8, 'p')"), FLUSH, query("DEALLOCATE g"),
        run("SELECT 1/0"), SYNC, query("SELECT count(*) FROM same"), bind(name="g"), SYNC),
    say("deallocate in a unit that fails", parse("SELECT 1", "g"), SYNC,
        run("INSERT INTO same VALUES (8, 'p')"), run("SELECT 1/0"), query("DEALLOCATE g"), SYNC,
        query("SELECT count(*) FROM same"), close_statement("g"), SYNC),
    say("deallocate in a unit that fails, flushed", parse("SELECT 1", "g"), SYNC,
        run("SELECT 1/0"), FLUSH, query("DEALLOCATE g"), FLUSH, bind(name="g"), SYNC,
        bind(name="g"), execute(), SYNC, close_statement("g"), SYNC),
    say("deallocate in an open unit of a transaction", parse("SELECT 1", "g"), SYNC,
        query("BEGIN"), run("INSERT INTO same VALUES (8, 'p')"), FLUSH, query("DEALLOCATE g"),
        bind(name="g"), SYNC, query("ROLLBACK"), query("SELECT count(*) FROM same")),
    say("parse and close in a unit that fails", execute("none"), parse("SELECT 1", "g"),
        close_statement("g"), SYNC, parse("SELECT $1::int", "g"), SYNC,
        bind("7", name="g"), execute(), SYNC, close_statement("g"), SYNC),
    say("close and parse in a unit that fails", parse("SELECT 1", "g"), SYNC,
        execute("none"), close_statement("g"), parse("SELECT $1::int", "g"), SYNC,
        bind(name="g"), execute(), SYNC, close_statement("g"), SYNC),
    say("query that fails in an open unit", parse("SELECT 1", "g"), SYNC, bind(name="g"),
        query("SELECT 1/0"), SYNC, bind(), execute(), SYNC, close_statement("g"), SYNC),
    say("empty query in an open unit", parse("SELECT 1"), bind(), query(""), SYNC, bind(),
        execute(), SYNC),
    say("syntax error under a name in use", parse("SELECT 1", "g"), SYNC,
        parse("SELEKT", "g"), SYNC, bind(name="g"), execute(), SYNC, close_statement("g"), SYNC),
    say("no such table under a name in use", parse("SELECT 1", "g"), SYNC,
        parse("SELECT * FROM nowhere", "g"), SYNC, parse("SELECT $1::int", "g"), SYNC,
        bind(name="g"), execute(), SYNC, close_statement("g"), SYNC),
    say("discard all", parse("SELECT 1", "g"), SYNC, query("DISCARD ALL"), bind(name="g"), SYNC),
    say("begin and commit", run("BEGIN"), SYNC, run("SELECT 1"), SYNC, run("COMMIT"), SYNC),
    say("begin and rollback at once", run("BEGIN"), SYNC, run("ROLLBACK"), SYNC),
    say("begin in a pipeline", run("BEGIN"), run("SELECT 1"), run("COMMIT"), SYNC),
    say("begin in a pipeline with an error", run("BEGIN"), run("SELECT 1/0"), run("COMMIT"), SYNC,
        run("ROLLBACK"), SYNC),
    say("begin and commit in a pipeline", run("BEGIN"), run("COMMIT"), SYNC),
    say("begin twice in a pipeline", run("BEGIN"), run("BEGIN"), run("SELECT 1"), run("END"), SYNC),
    say("begin, flushed", parse("BEGIN"), FLUSH, bind(), FLUSH, execute(), FLUSH, SYNC,
        run("ROLLBACK"), SYNC),
    say("begin after a statement in the pipeline", run("SELECT 1"), run("BEGIN"), SYNC,
        run("SELECT 2"), SYNC, run("COMMIT"), SYNC),
    say("start transaction with modes", run("START TRANSACTION ISOLATION LEVEL SERIALIZABLE"), SYNC,
        run("SHOW transaction_isolation"), SYNC, run("COMMIT"), SYNC),
    say("begin by name", parse("BEGIN", "b"), parse("COMMIT", "c"), SYNC,
        bind(name="b"), execute(), SYNC, run("SELECT 1"), SYNC, bind(name="c"), execute(), SYNC,
        bind(name="b"), execute(), SYNC, bind(name="c"), execute(), SYNC,
        close_statement("b"), close_statement("c"), SYNC),
    say("begin described", parse("BEGIN"), describe_statement(), bind(), describe_portal(),
        execute(), SYNC, query("ROLLBACK")),
    say("begin described with another statement", parse("SELECT 1 AS one", "o"), SYNC,
        parse("BEGIN"), describe_statement("o"), SYNC, close_statement("o"), SYNC),
    say("begin parsed twice under one name", parse("BEGIN", "b"), SYNC, parse("BEGIN", "b"), SYNC,
        close_statement("b"), SYNC),
    say("begin bound to a named portal", parse("BEGIN"), bind(portal="p"), describe_portal("p"),
        execute("p"), SYNC, query("ROLLBACK")),
    say("begin bound, another portal run", parse("BEGIN"), bind(portal="p"), execute("other"),
        SYNC, query("ROLLBACK")),
    say("begin executed twice", parse("BEGIN"), bind(), execute(), execute(), SYNC,
        query("ROLLBACK")),
    say("rollback executed twice", query("BEGIN"), parse("ROLLBACK"), bind(), execute(), execute(),
        SYNC),
    say("begin with a parameter", parse("BEGIN"), bind("1"), execute(), SYNC, query("ROLLBACK")),
    say("begin parsed and not run", parse("BEGIN"), SYNC, parse("SELECT 1"), bind(), execute(),
        SYNC),
    say("begin parsed, run later", parse("BEGIN"), SYNC, bind(), execute(), SYNC,
        run("SELECT 1"), SYNC, query("COMMIT")),
    say("commit outside", run("COMMIT"), SYNC),
    say("commit after an error", run("BEGIN"), SYNC, run("SELECT 1/0"), SYNC, run("SELECT 1"), SYNC,
        run("COMMIT"), SYNC),
    say("rollback to a savepoint", run("BEGIN"), run("SAVEPOINT s"), SYNC, run("SELECT 1/0"), SYNC,
        run("ROLLBACK TO s"), SYNC, run("SELECT 1"), SYNC, run("COMMIT"), SYNC),
    say("simple begin, extended work", query("BEGIN"), run("SELECT 1"), SYNC, query("COMMIT")),
    say("extended begin, simple work", run("BEGIN"), SYNC, query("SELECT 1"), query("COMMIT")),
    say("close a portal in an empty transaction", query("BEGIN"), close_portal("x"), SYNC,
        query("COMMIT")),
    say("notice", run("DO $$ BEGIN RAISE NOTICE 'hear'; END $$"), SYNC),
    say("time zone", run("SET TimeZone = 'Asia/Tokyo'"), SYNC, run("SHOW TimeZone"), SYNC,
        query("RESET TimeZone")),
    say("long parameter", parse("SELECT length($1::text)"), bind("v" * 50_000), execute(), SYNC),
    say("many parameters", parse("SELECT " + "+".join(f"${i}::int" for i in range(1, 201))),
        bind(*["1"] * 200), describe_portal(), execute(), SYNC),
    say("many statements in a pipeline",
        *(run(f"SELECT {i}, $1::text", str(i)) for i in range(100)), SYNC),
    say("many named statements in a pipeline",
        *(parse(f"SELECT {i % 7}", f"m{i}") + bind(name=f"m{i}") + execute() for i in range(30)),
        SYNC, *(close_statement(f"m{i}") for i in range(30)), SYNC),
    say("many units", *(run("SELECT $1::int", str(i)) + SYNC for i in range(50))),
    say("large result in a pipeline", run("SELECT repeat('r', 60000)"), run("SELECT 1"), SYNC),
]  # fmt: skip

# Where unnamed statements are shared, none is left when all this arrives at once.
IGNORED = [
    say("query in a unit that fails", parse("SELECT $1::int"), SYNC, run("SELECT 1", portal="x"),
        execute("none"), query("SELECT 2"), parse("SELECT 3"), SYNC, bind("7"), execute(), SYNC),
    say("query in a unit that fails, flushed", parse("SELECT $1::int"), SYNC, execute("none"),
        FLUSH, query("SELECT 2"), SYNC, bind("7"), execute(), SYNC),
]  # fmt: skip

FIVE = "SELECT generate_series(1, 5)"


def both_portals(between: bytes) -> list[bytes]:
    """Two portals, a few rows of one and of the other in turns."""
    opened = [parse(FIVE, "five"), bind(name="five", portal="x"),
              parse("SELECT * FROM same ORDER BY id"), bind(portal="y")]  # fmt: skip
    turns = [execute("x", 2), execute("y", 1), execute("x", 2), execute("y", 2), execute("y", 2),
             execute("x", 2), execute("x", 2)]  # fmt: skip
    return [*opened, between, *(part for turn in turns for part in (turn, between))]


# Rows in portions: each Execute but the last is answered with PortalSuspended.
PORTALS = [
    say("two in turns", *both_portals(b""), SYNC, close_statement("five"), SYNC),
    say("two in turns, flushed", *both_portals(FLUSH), SYNC, close_statement("five"), SYNC),
    say("two in turns, gone at the first sync", *both_portals(SYNC), close_statement("five"), SYNC),
    say("two in turns in a transaction", query("BEGIN"), *both_portals(b""), SYNC,
        query("COMMIT"), execute("x", 1), SYNC, close_statement("five"), SYNC),
    say("two in turns in a transaction, flushed", query("BEGIN"), *both_portals(FLUSH), SYNC,
        query("ROLLBACK"), execute("y", 1), SYNC, close_statement("five"), SYNC),
    say("two in turns in a transaction, with syncs", query("BEGIN"), *both_portals(SYNC),
        query("COMMIT"), close_statement("five"), SYNC),
    say("as many rows as there are", parse(FIVE), bind(), execute(rows=5), execute(rows=5), SYNC),
    say("one row less than there are", parse(FIVE), bind(), execute(rows=4), execute(), SYNC),
    say("in a transaction begun with it", run("BEGIN"), parse(FIVE), bind(portal="x"),
        execute("x", 2), SYNC, execute("x", 2), FLUSH, describe_portal("x"), FLUSH,
        execute("x"), SYNC, run("COMMIT"), SYNC),
    say("of a write with its rows", query("BEGIN"),
        parse("UPDATE same SET v = 'new' RETURNING id"), bind(portal="x"), execute("x", 1), FLUSH,
        execute("x", 1), SYNC, execute("x"), SYNC, query("SELECT * FROM same ORDER BY id"),
        query("ROLLBACK")),
    say("in binary", query("BEGIN"), parse(FIVE), bind(portal="x", results=[1]),
        describe_portal("x"), execute("x", 2), SYNC, execute("x", 9), SYNC, query("END")),
    say("of nothing", parse("SELECT 1 WHERE false"), bind(), execute(rows=1), execute(rows=1),
        SYNC),
    say("of a command", parse("SET work_mem = '1MB'"), bind(), execute(rows=1), execute(rows=1),
        SYNC, query("RESET work_mem")),
    say("closed between portions", query("BEGIN"), parse(FIVE), bind(portal="x"),
        execute("x", 2), FLUSH, close_portal("x"), FLUSH, execute("x", 2), SYNC, query("END")),
    say("its statement is closed between portions", query("BEGIN"), parse(FIVE, "five"),
        bind(name="five", portal="x"), execute("x", 2), SYNC, close_statement("five"), SYNC,
        execute("x", 2), SYNC, bind(name="five"), SYNC, query("END")),
    say("its statement is deallocated between portions", query("BEGIN"), parse(FIVE, "five"),
        bind(name="five", portal="x"), execute("x", 2), SYNC, query("DEALLOCATE five"),
        execute("x"), SYNC, query("END")),
    say("the unnamed one is gone with the next bind", query("BEGIN"), parse(FIVE), bind(),
        execute(rows=2), SYNC, parse("SELECT 'other'"), bind(), execute(rows=2), SYNC,
        execute(rows=2), SYNC, query("END")),
    say("the unnamed one is gone with a query", query("BEGIN"), parse(FIVE), bind(),
        execute(rows=2), SYNC, query("SELECT 'other'"), execute(rows=2), SYNC, query("END")),
    say("a named one outlives a query", query("BEGIN"), parse(FIVE), bind(portal="x"),
        execute("x", 2), SYNC, query("SELECT 'other'"), execute("x", 2), SYNC, query("END")),
    say("read as a cursor", query("BEGIN"), parse(FIVE), bind(portal="x"), execute("x", 2),
        SYNC, query("FETCH 2 FROM x"), execute("x", 2), SYNC, query("CLOSE x"), execute("x"), SYNC,
        query("END")),
    say("a cursor read as a portal", query("BEGIN"), query(f"DECLARE c CURSOR FOR {FIVE}"),
        describe_portal("c"), execute("c", 2), FLUSH, execute("c", 2), SYNC,
        query("FETCH 1 FROM c"), close_portal("c"), execute("c", 1), SYNC, query("END")),
    say("a held cursor read as a portal", query(f"DECLARE c CURSOR WITH HOLD FOR {FIVE}"),
        execute("c", 2), SYNC, describe_portal("c"), execute("c", 2), SYNC, execute("c"), SYNC,
        close_portal("c"), SYNC, execute("c"), SYNC),
    say("an error between portions", query("BEGIN"), parse(FIVE), bind(portal="x"),
        execute("x", 2), SYNC, run("SELECT 1/0"), SYNC, execute("x", 2), SYNC, query("END"),
        execute("x", 2), SYNC),
    say("an error in the second portion", query("BEGIN"),
        parse("SELECT 1/(3 - g) FROM generate_series(1, 5) g"), bind(portal="x"), execute("x", 2),
        SYNC, execute("x", 2), SYNC, query("END")),
    say("back to before it was opened", query("BEGIN"), query("SAVEPOINT s"), parse(FIVE),
        bind(portal="x"), execute("x", 2), SYNC, query("ROLLBACK TO s"), execute("x", 2), SYNC,
        query("ROLLBACK TO s"), query("END")),
    say("a savepoint after it was opened", query("BEGIN"), parse(FIVE), bind(portal="x"),
        execute("x", 2), SYNC, query("SAVEPOINT s"), execute("x", 1), SYNC,
        query("ROLLBACK TO s"), execute("x", 2), SYNC, query("END")),
    say("many opened and never run", query("BEGIN"), parse("SELECT $1::int", "one"),
        *(bind(str(i), name="one", portal=f"x{i}") for i in range(40)), SYNC,
        *(execute(f"x{i}", 1) for i in reversed(range(40))), SYNC, query("END"),
        close_statement("one"), SYNC),
]  # fmt: skip

# A count or a string that does not fit its message. PostgreSQL answers with an error.
MALFORMED = [
    say("parse with more types than told", message(b"P", b"\0SELECT 1\0\0\0\0\0\0\x17"), SYNC),
    say("parse with fewer types than told", message(b"P", b"\0SELECT 1\0\0\2\0\0\0\x17"), SYNC),
    say("parse without a count", message(b"P", b"\0SELECT 1\0"), SYNC),
    say("parse of a name with fewer types than told",
        message(b"P", b"n\0SELECT 1\0\0\2\0\0\0\x17"), SYNC, bind(name="n"), SYNC),
    say("bind with fewer values than told", parse("SELECT $1::text"),
        message(b"B", b"\0\0\0\0\0\2\0\0\0\1a\0\0"), SYNC),
    say("bind with a value longer than it is", parse("SELECT $1::text"),
        message(b"B", b"\0\0\0\0\0\1\0\0\0\x7fa\0\0"), SYNC),
    say("bind with a negative length", parse("SELECT $1::text"),
        message(b"B", b"\0\0\0\0\0\1\xff\xff\xff\xfea\0\0"), SYNC),
    say("bind with a wrong count of formats", parse("SELECT $1::text"),
        bind("a", formats=[0, 0]), SYNC),
    say("bind with a wrong count of result formats", parse("SELECT 1"), bind(results=[0, 0]),
        describe_portal(), execute(), SYNC),
    say("bind with an unknown format", parse("SELECT $1::int"), bind("a", formats=[7]), SYNC),
    say("bind with more behind it", parse("SELECT 1"),
        message(b"B", b"\0\0\0\0\0\0\0\0more"), SYNC),
    say("describe of neither", message(b"D", b"X\0"), SYNC),
    say("close of neither", message(b"C", b"X\0"), SYNC),
    say("execute cut short", message(b"E", b"\0\0\0"), SYNC),
    say("copy data outside a copy", copy_data(b"lost"), COPY_DONE, copy_fail("no"),
        query("SELECT 1")),
]  # fmt: skip

COPY_IN = "COPY same FROM STDIN"
COPY_OUT = "COPY (SELECT * FROM same ORDER BY id) TO STDOUT"

COPIES = [
    say("out", query(COPY_OUT), query("SELECT 1")),
    say("out, binary", query(f"{COPY_OUT} (FORMAT binary)")),
    say("out of many rows", query("COPY (SELECT generate_series(1, 5000)) TO STDOUT")),
    say("out with an error",
        query("COPY (SELECT 1/(3 - g) FROM generate_series(1, 5) g) TO STDOUT")),
    say("out, several in a string", query(f"{COPY_OUT}; SELECT 1; {COPY_OUT}")),
    say("out, extended", run(COPY_OUT), SYNC, run("SELECT 1"), SYNC),
    say("out in a pipeline", run("SELECT 1"), run(COPY_OUT), run("SELECT 2"), SYNC),
    say("in", query(COPY_IN), copy_data(b"10\tten\n"), copy_data(b"11\televen\n"), COPY_DONE,
        query("SELECT * FROM same ORDER BY id")),
    say("in, nothing", query(COPY_IN), COPY_DONE),
    say("in, cut anywhere", query(COPY_IN), copy_data(b"1"), copy_data(b"0\tte"), copy_data(b"n\n"),
        COPY_DONE, query("SELECT * FROM same ORDER BY id")),
    say("in, several in a string", query(f"{COPY_IN}; {COPY_IN}; SELECT 1"),
        copy_data(b"10\ta\n"), COPY_DONE, copy_data(b"11\tb\n"), COPY_DONE, query("SELECT 2")),
    say("in fails in its data", query(COPY_IN), copy_data(b"x\ty\n"), copy_data(b"11\tb\n"),
        COPY_DONE, query("SELECT 1")),
    say("in fails in a transaction", query("BEGIN"), query(COPY_IN), copy_data(b"x\ty\n"),
        COPY_DONE, query("SELECT 1"), query("ROLLBACK")),
    say("in fails at its end", query(COPY_IN), copy_data(b"1\tagain\n"), COPY_DONE,
        query("SELECT 1")),
    say("in fails before it begins", query("COPY nowhere FROM STDIN"), copy_data(b"1\n"), COPY_DONE,
        query("SELECT 1")),
    say("in given up", query(COPY_IN), copy_data(b"10\ta\n"), copy_fail("changed my mind"),
        query("SELECT count(*) FROM same")),
    say("in a transaction", query("BEGIN"), query(COPY_IN), copy_data(b"10\ta\n"), COPY_DONE,
        query("SELECT count(*) FROM same"), query("ROLLBACK")),
    say("in with sync and flush meanwhile", query(COPY_IN), SYNC, FLUSH, copy_data(b"10\ta\n"),
        SYNC, COPY_DONE, query("SELECT count(*) FROM same")),
    say("in, extended", run(COPY_IN), copy_data(b"10\ta\n"), COPY_DONE, SYNC, run("SELECT 1"),
        SYNC),
    say("in, extended, with libpq's early sync", run(COPY_IN), SYNC, copy_data(b"10\ta\n"),
        COPY_DONE, SYNC, run("SELECT 1"), SYNC),
    say("in, extended, given up", run(COPY_IN), SYNC, copy_data(b"10\ta\n"), copy_fail("no"), SYNC,
        run("SELECT 1"), SYNC),
    say("in, extended, fails in its data", run(COPY_IN), SYNC, copy_data(b"x\ty\n"), COPY_DONE,
        SYNC, run("SELECT 1"), SYNC),
    say("in, extended, fails at its end", run(COPY_IN), SYNC, copy_data(b"1\tagain\n"), COPY_DONE,
        SYNC, run("SELECT 1"), SYNC),
    say("in, extended, fails before it begins", run("COPY nowhere FROM STDIN"), SYNC,
        copy_data(b"1\n"), COPY_DONE, SYNC, run("SELECT 1"), SYNC),
    say("in, extended, in a transaction", run("BEGIN"), SYNC, run(COPY_IN), SYNC,
        copy_data(b"10\ta\n"), COPY_DONE, SYNC, run("ROLLBACK"), SYNC),
    say("in in a pipeline", run("SELECT 1"), run(COPY_IN), copy_data(b"10\ta\n"), COPY_DONE,
        run("SELECT 2"), SYNC),
    say("in, much of it", query(COPY_IN),
        *(copy_data(b"".join(b"%d\t%s\n" % (n, b"x" * 40) for n in range(k, k + 100)))
          for k in range(100, 2100, 100)), COPY_DONE, query("SELECT count(*) FROM same")),
]  # fmt: skip

INT4_ABS, LO_OPEN, LO_CLOSE, LO_READ, LO_WRITE = 1397, 952, 953, 954, 955


def int4(value: int) -> bytes:
    return struct.pack("!i", value)


CALLS = [
    say("in text", function_call(INT4_ABS, b"-5")),
    say("in binary", function_call(INT4_ABS, int4(-5), formats=[1], result=1)),
    say("of null", function_call(INT4_ABS, None)),
    say("of what is not there", function_call(99_999_999, b"1"), query("SELECT 1")),
    say("with a wrong argument", function_call(INT4_ABS, b"x")),
    say("with a wrong count", function_call(INT4_ABS)),
    say("in a transaction", query("BEGIN"), function_call(INT4_ABS, b"-6"), query("COMMIT")),
    say("fails in a transaction", query("BEGIN"), function_call(INT4_ABS, b"x"), query("SELECT 1"),
        query("ROLLBACK")),
    say("between queries", query("SELECT 1"), function_call(INT4_ABS, b"-7"), run("SELECT 2"),
        SYNC),
    say("large object", query("BEGIN"), query("SELECT lo_from_bytea(424242, 'abc')"),
        function_call(LO_OPEN, int4(424242), int4(0x60000), formats=[1], result=1),
        function_call(LO_READ, int4(0), int4(10), formats=[1], result=1),
        function_call(LO_WRITE, int4(0), b"def" * 2000, formats=[1], result=1),
        function_call(LO_CLOSE, int4(0), formats=[1], result=1),
        query("SELECT length(lo_get(424242))"), query("SELECT lo_unlink(424242)"), query("COMMIT")),
]  # fmt: skip

ONLY_IN_SESSIONS = [
    say("prepared by SQL", queries("PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p",
                                   "EXECUTE p"), only_session=True),
    say("prepared by SQL, bound", query("PREPARE p AS SELECT 1"), bind(name="p"), execute(), SYNC,
        query("DEALLOCATE p"), only_session=True),
    say("temporary table", queries("CREATE TEMP TABLE gone (a int)", "INSERT INTO gone VALUES (1)",
                                   "SELECT a + 1 FROM gone", "DROP TABLE gone"),
        only_session=True),
    say("held cursor", queries("DECLARE h CURSOR WITH HOLD FOR SELECT 1", "FETCH h", "CLOSE h"),
        only_session=True),
    say("listens", queries("LISTEN here", "NOTIFY here, 'one'", "SELECT 1", "NOTIFY here",
                           "UNLISTEN here", "NOTIFY here"), only_session=True),
    say("notifies in a pipeline", query("LISTEN here"), run("NOTIFY here"), run("SELECT 1"), SYNC,
        query("UNLISTEN *"), only_session=True),
    say("other settings", queries("SET work_mem = '123kB'", "SHOW work_mem", "RESET work_mem"),
        only_session=True),
    say("advisory lock", queries("SELECT pg_advisory_lock(77)", "SELECT pg_advisory_unlock(77)",
                                 "SELECT pg_advisory_unlock(77)"), only_session=True),
]  # fmt: skip

EVERYTHING = {
    f"{family}: {each.name}": each
    for family, members in {
        "simple": SIMPLE,
        "transaction": TRANSACTIONS,
        "extended": EXTENDED,
        "extended, in portions": PORTALS,
        "malformed": MALFORMED,
        "copy": COPIES,
        "call": CALLS,
        "session": ONLY_IN_SESSIONS,
    }.items()
    for each in members
}


# --- how it is said ------------------------------------------------------------------------------


def in_one_write(said: bytes) -> list[bytes]:
    return [said]


def message_by_message(said: bytes) -> list[bytes]:
    return list(messages_in(said))


def byte_by_byte(said: bytes) -> list[bytes]:
    if len(said) <= MOST_BYTES_ONE_BY_ONE:
        return [said[at : at + 1] for at in range(len(said))]
    return in_pieces(said, 100)


def in_pieces(said: bytes, count: int = 20) -> list[bytes]:
    """Cut at random places, the same ones each time."""
    cuts = random.Random(len(said)).sample(range(1, len(said)), min(count, len(said)) - 1)
    edges = [0, *sorted(cuts), len(said)]
    return [said[a:b] for a, b in itertools.pairwise(edges)]


WAYS = {
    "in one write": in_one_write,
    "message by message": message_by_message,
    "byte by byte": byte_by_byte,
    "in pieces": in_pieces,
}
# Each at its price: the answer to every byte is waited for.
IN_TRANSACTIONS = ("in one write", "message by message", "byte by byte")
ELSEWHERE = ("in one write", "message by message", "in pieces")


def is_over(heard: list[Message]) -> bool:
    return (
        len(heard) >= 3
        and heard[-1].kind == b"Z"
        and heard[-3].kind == b"D"
        and columns_of(heard[-3]) == [LAST_WORD]
    )


def comparable(heard: Iterable[Message]) -> list[Message]:
    """Without what must differ: the process id in a notification, and where in PostgreSQL's source
    an error was raised: a statement that is prepared already is refused at its Bind, not its Parse.
    """
    return [
        Message(m.kind, m.body[4:])
        if m.kind == b"A"
        else Message(m.kind, re.sub(rb"(?<=\0)[FLR][^\0]*\0", b"", m.body))
        if m.kind == b"E"
        else m
        for m in heard
    ]


# --- where ---------------------------------------------------------------------------------------


MODES = ("transaction", "session", "shared")


@dataclass(frozen=True)
class Places:
    """Where to say it: direct, and through the proxy in each mode.

    keeper: puts the table back as it was. told: what PostgreSQL answered, by what was said.
    """

    node: Postgres
    weir: Pgweir
    keeper: Wire
    told: dict[bytes, list[Message]]

    def direct(self) -> Address:
        return address_of(self.node)

    def through(self, mode: str) -> Address:
        return address_of(self.weir, mode)

    def restore(self) -> None:
        self.keeper.ask(
            query("DELETE FROM same; INSERT INTO same VALUES (1, 'one'), (2, 'two'), (3, NULL)")
        )


def places_before(node: Postgres, folder: Path) -> Iterator[Places]:
    each = {"cluster": "main", "dbname": DATABASE, "pool_size": 2}
    databases = {
        "transaction": each,
        "session": {**each, "pool_mode": "session"},
        "shared": {**each, "share_unnamed": True},
    }
    with (
        Wire.connect(address_of(node)) as keeper,
        running(configuration(node, databases=databases), folder) as weir,
    ):
        keeper.ask(query("CREATE TABLE same (id int PRIMARY KEY, v text)"))
        places = Places(node, weir, keeper, {})
        for mode in MODES:
            warm(places.through(mode))
        yield places
        keeper.ask(query("DROP TABLE same"))


def warm(address: Address) -> None:
    """Open both connections of the pool, and leave another client's traces on them."""
    with Wire.connect(address) as first, Wire.connect(address, TimeZone="Asia/Tokyo") as second:
        for wire in (first, second):
            wire.ask(query("BEGIN"))
            wire.ask(query("SELECT 1"))
        for wire in (first, second):
            wire.ask(run("SELECT 'somebody else'"), SYNC)
            wire.ask(parse("SELECT 'somebody else', $1::int", "s1"), SYNC)
        for wire in (first, second):
            wire.ask(query("COMMIT"))


@pytest.fixture(scope="module")
def places18(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    yield from places_before(pg18, tmp_path_factory.mktemp("same18"))


@pytest.fixture(scope="module")
def places16(pg16: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    yield from places_before(pg16, tmp_path_factory.mktemp("same16"))


Way = Callable[[bytes], list[bytes]]


def answer(places: Places, address: Address, said: bytes, way: Way) -> list[Message]:
    places.restore()
    with Wire.connect(address) as wire:
        heard = wire.exchange([*way(said), THE_END], is_over)
        assert is_over(heard), f"it ended early: {heard[-20:]}"
        return comparable(heard)


def expected(places: Places, said: bytes) -> list[Message]:
    """What PostgreSQL says; asked once."""
    if said not in places.told:
        places.told[said] = answer(places, places.direct(), said, in_one_write)
    return places.told[said]


def check(places: Places, conversation: Conversation, mode: str, way: Way) -> None:
    wanted = expected(places, conversation.said)
    assert answer(places, places.through(mode), conversation.said, way) == wanted


ANYWHERE = [name for name, each in EVERYTHING.items() if not each.only_session]


@pytest.mark.parametrize("way", IN_TRANSACTIONS)
@pytest.mark.parametrize("name", ANYWHERE)
def test_transaction_mode_answers_as_postgresql(places18: Places, name: str, way: str) -> None:
    check(places18, EVERYTHING[name], "transaction", WAYS[way])


@pytest.mark.parametrize("way", ELSEWHERE)
@pytest.mark.parametrize("name", EVERYTHING)
def test_session_mode_answers_as_postgresql(places18: Places, name: str, way: str) -> None:
    check(places18, EVERYTHING[name], "session", WAYS[way])


@pytest.mark.parametrize("way", ELSEWHERE)
@pytest.mark.parametrize("name", [name for name in ANYWHERE if name.startswith(("ext", "malf"))])
def test_shared_unnamed_statements_answer_as_postgresql(
    places18: Places, name: str, way: str
) -> None:
    check(places18, EVERYTHING[name], "shared", WAYS[way])


@pytest.mark.parametrize("name", ANYWHERE)
def test_transaction_mode_answers_as_postgresql_16(places16: Places, name: str) -> None:
    check(places16, EVERYTHING[name], "transaction", in_one_write)


@pytest.mark.parametrize("mode", MODES)
def test_a_welcome_names_the_same_parameters(places18: Places, mode: str) -> None:
    with Wire.connect(places18.direct()) as direct, Wire.connect(places18.through(mode)) as through:
        assert through.parameters == direct.parameters


@pytest.mark.parametrize("mode", MODES)
def test_conversations_one_after_another_on_one_connection_answer_as_postgresql(
    places18: Places, mode: str
) -> None:
    chosen = [
        each
        for family in (SIMPLE, EXTENDED, CALLS)
        for each in family
        if "discard all" not in each.name
    ]
    random.Random(7).shuffle(chosen)
    said = b"".join(each.said for each in chosen)
    wanted = expected(places18, said)
    assert answer(places18, places18.through(mode), said, message_by_message) == wanted


@pytest.mark.parametrize("way", IN_TRANSACTIONS)
@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("conversation", IGNORED, ids=lambda each: each.name)
def test_a_query_that_is_ignored_leaves_the_unnamed_statement(
    places18: Places, conversation: Conversation, mode: str, way: str
) -> None:
    check(places18, conversation, mode, WAYS[way])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "said",
    [
        query(COPY_IN) + query("SELECT 1"),
        query("BEGIN") + query(COPY_IN) + copy_data(b"10\ta\n") + query("SELECT 1"),
        run(COPY_IN) + query("SELECT 1"),
        query(COPY_IN) + copy_data(b"10\ta\n") + run("SELECT 1") + SYNC,
    ],
    ids=["simple", "in a transaction", "extended", "by a pipeline"],
)
def test_a_copy_cut_by_a_statement_ends_as_postgresql_ends_it(
    places18: Places, said: bytes, mode: str
) -> None:
    def heard_by(address: Address) -> list[Message]:
        places18.restore()
        with Wire.connect(address) as wire:
            return comparable(wire.exchange([said, THE_END], is_over))

    assert heard_by(places18.through(mode)) == (wanted := heard_by(places18.direct()))
    assert not is_over(wanted)


def test_the_comparison_sees_a_difference() -> None:
    one, other = ([Message(b"C", tag)] for tag in (b"SELECT 1\0", b"SELECT 2\0"))
    assert comparable(one) != comparable(other)
    assert rows_of([Message(b"D", b"\0\1\0\0\0\1x")]) == [[b"x"]]
    assert text("a") == b"a\0"
