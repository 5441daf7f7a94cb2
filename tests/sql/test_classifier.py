"""Remembering verdicts, and what hostile texts cost."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql import (
    Catalogue,
    Classifier,
    GrammarError,
    Name,
    builtin_volatility,
    lex,
    parse,
)
from proxy.sql.grammar import MAX_BYTES, MAX_TOKENS
from tests.sql.statements import READS, WRITES


def classifier(**limits: int) -> Classifier:
    return Classifier(Catalogue(builtin_volatility), **limits)


def test_texts_that_differ_in_constants_share_a_verdict() -> None:
    verdicts = classifier()
    _, one = verdicts.classify(b"select abalance from pgbench_accounts where aid = 1")
    _, other = verdicts.classify(b"SELECT abalance FROM pgbench_accounts WHERE aid=22 -- again")
    assert one is other
    assert (verdicts.hits, verdicts.misses, len(verdicts)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("listen a", "listen b"),
        ("execute a", "execute b"),
        ("set a.b = 1", "set a.c = 1"),
        ("select set_config('a.b', 'x', false)", "select set_config('a.c', 'x', false)"),
        ("select set_config('a.b', 'x', false)", "select set_config('a.b', 'x', true)"),
        ("select current_setting('port')", "select current_setting('a.b')"),
        ('select 1 from "a"', 'select 1 from "A"'),
        ("select f(1)", "select f(1, 1)"),
        ("select 1 where a in (1)", "select 1 where a in (1, f())"),
    ],
)
def test_what_the_verdict_hangs_on_is_in_the_key(one: str, other: str) -> None:
    assert lex(one.encode()).key != lex(other.encode()).key


def test_the_verdict_unused_longest_is_forgotten_first() -> None:
    verdicts = classifier(max_entries=2)
    for text in (b"select a", b"select b", b"select a", b"select c", b"select a"):
        verdicts.classify(text)
    assert (verdicts.hits, verdicts.misses, len(verdicts)) == (2, 3, 2)
    verdicts.classify(b"select b")
    assert verdicts.misses == 4


def test_memory_is_bounded_by_bytes() -> None:
    verdicts = classifier(max_bytes=20_000)
    for number in range(100):
        verdicts.classify(f"select a{number}, {'b, ' * 50} c".encode())
        assert verdicts.held_bytes <= 20_000
    assert 0 < len(verdicts) < 20
    verdicts.classify(f"select {'a, ' * 5000} b".encode())
    assert verdicts.held_bytes <= 20_000


def test_what_cannot_be_parsed_is_remembered_too() -> None:
    verdicts = classifier()
    verdicts.classify(b"selec 1")
    verdicts.classify(b"selec 2")
    assert (verdicts.hits, verdicts.misses) == (1, 1)


DEEP = [
    "'select ' + '(' * n + '1' + ')' * n",
    "'select ' + '[' * n",
    "'select ' + '1+' * n + '1'",
    "'select ' + 'a||' * n + 'a'",
    "'select 1' + '::int' * n",
    "'select 1 ' + 'union select 1 ' * n",
    "'select * from a ' + 'cross join a ' * n",
    "'select ' + 'not ' * n + 'true'",
    "'select ' + '- ' * n + '1'",
    "'select ' + 'f(' * n + ')' * n",
    "'select ' + '(select ' * n + '1' + ')' * n",
    "'select a' + ' collate b' * n",
    "'select a' + '[1]' * n",
    "'select case when ' * n + '1'",
    "'with a as (' * n + 'select 1' + ') select 1' * n",
    "'explain ' * n + 'select 1'",
    "'select 1;' * n",
    "'select ' + 'a and b or ' * n + 'a'",
    "'/*' * n",
    "'$a' * n",
    "'\"' * n",
    '"\'" * n',
    "'select a' + ',a' * n",
]


@pytest.mark.parametrize("deep", DEEP)
def test_no_text_ends_the_process(deep: str) -> None:
    """In a process of its own with a small stack: the parser descends by recursion."""
    program = (
        "import resource, sys\n"
        "from proxy.sql import Catalogue, Classifier, builtin_volatility\n"
        "c = Classifier(Catalogue(builtin_volatility))\n"
        "for n in (100, 1000, 4000, 8000, 20000, 100000):\n"
        f"    c.classify(({deep}).encode())\n"
    )
    run = ["sh", "-c", f'ulimit -s 4096; exec "{sys.executable}" -c "$0"', program]
    done = subprocess.run(run, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_long_texts_are_not_parsed() -> None:
    verdicts = classifier()
    tokens = verdicts.classify(b"select a" + b",a" * MAX_TOKENS)[1]
    size = verdicts.classify(b"select " + b"a" * (MAX_BYTES + 1))[1]
    assert tokens.reasons == (f"cannot be read: more than {MAX_TOKENS} tokens",)
    assert size.reasons == (f"cannot be read: longer than {MAX_BYTES} bytes",)


def test_a_text_that_nobody_has_counted_is_parsed_if_it_is_short() -> None:
    assert len(parse(b"set a.b = 'c'; select 1")) == 2
    with pytest.raises(GrammarError, match="more than"):
        parse(b"select " + b"1+" * MAX_TOKENS + b"1")


def test_a_long_list_of_constants_is_no_long_text() -> None:
    constants = b",".join(b"%d" % number for number in range(100_000))
    assert classifier().classify(b"select 1 where a in (" + constants + b")")[1].reads_only


def test_a_bulk_insert_is_no_long_text() -> None:
    rows = b", ".join(b"($%d, $%d::text)" % (number, number + 1) for number in range(30_000))
    _, verdict = classifier().classify(b"insert into t (a, b) values " + rows)
    assert verdict.reasons == ("does INSERT (t)",)


def test_names_that_are_no_utf8_come_out_as_they_came_in() -> None:
    (facts,) = classifier().classify(b'select * from "\xff\xfe"')[1].statements
    assert facts.reads == {Name("", b"\xff\xfe".decode("utf-8", "surrogateescape"))}


@given(st.binary(max_size=60))
def test_any_bytes_get_a_verdict(text: bytes) -> None:
    verdict = classifier().classify(text)[1]
    assert verdict.reads_only == (not verdict.reasons)


pieces = st.sampled_from(
    sorted({word for text in [*READS, *(text for text, _ in WRITES)] for word in text.split()})
)


@given(st.lists(pieces, max_size=12).map(" ".join))
def test_words_of_sql_in_any_order_get_a_verdict(text: str) -> None:
    classifier().classify(text.encode())


@given(st.sampled_from(READS), st.sampled_from([text for text, _ in WRITES]), st.booleans())
def test_the_strictest_of_several_statements_decides(read: str, write: str, first: bool) -> None:
    text = f"{write};\n{read}" if first else f"{read}\n;{write}"
    assert not classifier().classify(text.encode())[1].reads_only
