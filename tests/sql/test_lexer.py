"""The lexer: what becomes of a text, token by token."""

import postgast
import pytest

from proxy.sql import Lexed, lex


def key(text: str, **options: bool) -> str:
    lexed = lex(text.encode(), **options)
    assert lexed.trouble is None
    return lexed.key.decode()


def statements(text: str) -> list[str]:
    raw = text.encode()
    return [raw[start:end].decode() for start, end in lex(raw).spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\n\r\f\v ", ""),
        ("SELECT Abalance FROM T", "select abalance from t"),
        ('SELECT "Abalance", "a""b", "a--b"', 'select "Abalance" , "a""b" , "a--b"'),
        ("select Ünïcode", "select Ünïcode"),
        ("select a$b, _c", "select a$b , _c"),
        # Constants.
        ("select 'a', 'it''s', ''", "select '1' , '1' , '1'"),
        (r"select 'a\', 'b'", "select '1' , '1'"),
        (r"select E'a\'b', e'\\', 'c'", "select '1' , '1' , '1'"),
        ("select B'01', x'FF', N'a'", "select b'1' , x'1' , n'1'"),
        ("select U&'d\\0061', u&'!' UESCAPE '!'", "select u&'1' , u&'1' uescape '!'"),
        ('select U&"d\\0061t"', 'select U&"d\\0061t"'),
        ("select 1, 1.5, .5, 1., 1e5, 1.5E-3, 1e+2", "select " + " , ".join("1" * 7)),
        ("select 0xFF, 0o17, 0B01, 1_000, 0x_f, 1_0.0_1", "select " + " , ".join("1" * 6)),
        ("select $1, $23::int", "select $1 , $23 :: int"),
        ("select $$a;'$$, $x$ $y$ $$ $x$, $Ünï$ a $Ünï$", "select '1' , '1' , '1'"),
        ("select a$$b", "select a$$b"),
        # A string goes on behind a new line.
        ("select 'a'\n  'b', 'c' -- d\n 'e'", "select '1' , '1'"),
        (r"select E'a' " + "\n" + r" 'b\'c' , 1", "select '1' , 1"),
        ("select 'a' 'b'", "select '1' '1'"),
        ("select 'a' /* \n */ 'b'", "select '1' '1'"),
        # Comments.
        ("select 1 -- a ' comment\n, 2", "select 1 , 1"),
        ("select 1 -- a comment\r, 2", "select 1 , 1"),
        ("select /* a /* b */ ' */ 1", "select 1"),
        ("select 1/**/+2", "select 1 + 1"),
        ("-- only this", ""),
        # Operators. A minus sign never ends up beside another one.
        ("select 1- -1, - - 1", "select 1 - - 1 , - - 1"),
        ("select a*-1, a @-1, a<=b, a||b", "select a *- 1 , a @- 1 , a <= b , a || b"),
        ("select a+--b\n1, a*/*b*/1", "select a + 1 , a * 1"),
        ("select a::int, a[1:2], f(a=>1, b:=2)", None),
        ("select t.*, count(*)", "select t . * , count ( * )"),
        # Statements.
        ("select 1;", "select 1"),
        (";; select 1 ;;; select 2;;", "select 1 ; select 1"),
        ("create rule r as on insert to t do (select 1; select 2); select 3", None),
        # Lists.
        ("select 1 where a in (1, 2, 3)", "select 1 where a in ( 1 )"),
        ("select 1 where a not in ('a','b') and b IN($1,$2)", None),
        ("select 1 where a in (1, b, 3)", "select 1 where a in ( 1 , b , 1 )"),
        ("select 1 where a in (1, -1)", "select 1 where a in ( 1 , - 1 )"),
        ("select 1 where (a, b) in ((1, 2), (3, 4))", None),
        ("select s.in(1, 2)", "select s . in ( 1 , 1 )"),
        ("select f(1, 2)", "select f ( 1 , 1 )"),
        ("select 1 where a in ($1::int, $2::INT, $3)", "select 1 where a in ( $1 :: int )"),
        ("select 1 where a in ($1::s.t, $2)", "select 1 where a in ( $1 :: s . t , $2 )"),
        ("values (1, 'a'), (2, null), ($1::int, default)", "values ( 1 , '1' )"),
        ("values (f(1)), (2), (g(3)), (-4)", "values ( f ( 1 ) ) , ( g ( 1 ) )"),
        ("select * from (values (1), (2)) t(a), b", "select * from ( values ( 1 ) ) t ( a ) , b"),
        ("insert into values (a) values (1), (2)", "insert into values ( a ) values ( 1 )"),
        ("values (1), (), (a), (null)", "values ( 1 ) , ( ) , ( a )"),
        ("select 1 from t values (a), (select 1)", "select 1 from t values ( a ) , ( select 1 )"),
        ("values (1), (2); select (3), (4)", "values ( 1 ) ; select ( 1 ) , ( 1 )"),
        ("select t.values(1), (2)", "select t . values ( 1 ) , ( 1 )"),
        # Names of settings.
        ("select set_config('a.b', 'c', false)", "select set_config ( 'a.b' , '1' , false )"),
        ("select pg_catalog.current_setting ('TimeZone')", None),
        ("select current_setting('a b'), current_setting($1)", None),
    ],
)
def test_key_is_the_text_without_its_constants(text: str, expected: str | None) -> None:
    others = {
        "select a::int, a[1:2], f(a=>1, b:=2)": (
            "select a :: int , a [ 1 : 1 ] , f ( a => 1 , b := 1 )"
        ),
        "create rule r as on insert to t do (select 1; select 2); select 3": (
            "create rule r as on insert to t do ( select 1 ; select 1 ) ; select 1"
        ),
        "select 1 where a not in ('a','b') and b IN($1,$2)": (
            "select 1 where a not in ( '1' ) and b in ( $1 )"
        ),
        "select 1 where (a, b) in ((1, 2), (3, 4))": (
            "select 1 where ( a , b ) in ( ( 1 , 1 ) , ( 1 , 1 ) )"
        ),
        "select pg_catalog.current_setting ('TimeZone')": (
            "select pg_catalog . current_setting ( 'TimeZone' )"
        ),
        "select current_setting('a b'), current_setting($1)": (
            "select current_setting ( '1' ) , current_setting ( $1 )"
        ),
    }
    assert key(text) == (expected if expected is not None else others[text])


@pytest.mark.parametrize(
    ("text", "backslashes", "expected"),
    [
        (r"select 'a\', ' from b", True, "select '1' from b"),
        (r"select 'a\' from b", False, "select '1' from b"),
        (r"select N'a\'' from b", True, "select n'1' from b"),
        (r"select B'\', 'a'", True, "select b'1' , '1'"),
    ],
)
def test_backslashes_escape_when_strings_do_not_conform(
    text: str, backslashes: bool, expected: str
) -> None:
    assert key(text, backslashes=backslashes) == expected


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (b"select 'a", "an unterminated string"),
        (b"select E'a\\'", "an unterminated string"),
        (b"select E'a\\", "an unterminated string"),
        (b"select 'a'\n'b", "an unterminated string"),
        (b"select x'1", "an unterminated string"),
        (b"select u&'1", "an unterminated string"),
        (b'select "a', "an unterminated quoted name"),
        (b'select u&"a""', "an unterminated quoted name"),
        (b"select $$a$", "an unterminated dollar-quoted string"),
        (b"select $a$ $b$", "an unterminated dollar-quoted string"),
        (b"select /* a", "an unterminated comment"),
        (b"select /* a /* b */", "an unterminated comment"),
        (b"select /*/", "an unterminated comment"),
        (b"select (1", "unbalanced brackets"),
        (b"select 1)", "unbalanced brackets"),
        (b"select 1a", "letters right behind a number"),
        (b"select 0x", "letters right behind a number"),
        (b"select 1_", "letters right behind a number"),
        (b"select 1e", "letters right behind a number"),
        (b"select $1a", "letters right behind a number"),
        (b"select 1\0", "a NUL byte"),
    ],
)
def test_trouble_is_said(text: bytes, trouble: str) -> None:
    lexed = lex(text)
    assert (lexed.trouble, lexed.key, lexed.spans) == (trouble, b"", ())


def test_an_encoding_that_hides_quotes_is_read_only_where_it_is_ascii() -> None:
    # In SJIS these two bytes are one character, whose second half looks like a backslash.
    text = b"select E'\x95\x5c', pg_sleep(1) --'"
    assert lex(text, ambiguous_encoding=True).trouble is not None
    assert lex(b"select 1", ambiguous_encoding=True).trouble is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1", ["select 1"]),
        (" select 1 ; -- a\n ; select 2 -- b\n", ["select 1", "select 2"]),
        ("select ';'; select $$;$$", ["select ';'", "select $$;$$"]),
        ("", []),
        (";", []),
        (
            "create function f(a int) returns int begin atomic select case when a = 1 then 2 end;"
            " select 3; end; select 1",
            [
                "create function f(a int) returns int begin atomic select case when a = 1 then 2"
                " end; select 3; end",
                "select 1",
            ],
        ),
        (
            "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1 AS end; SELECT 2; END; SELECT 3",
            [
                "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1 AS end; SELECT 2; END",
                "SELECT 3",
            ],
        ),
        ("begin; select case when a then b end; end", None),
        ("create function begin() returns int return 1; select 2", None),
    ],
)
def test_statements_end_where_the_grammar_ends_them(text: str, expected: list[str] | None) -> None:
    found = statements(text)
    assert expected is None or found == expected
    assert found == [each.strip(" \n").split(" --")[0] for each in split(text)]


def split(text: str) -> list[str]:
    by_grammar = postgast.split(text)
    return [each.removeprefix(" -- a\n ; ") for each in by_grammar if each.strip(" ;\n")]


def hint(text: str) -> Lexed:
    return lex(text.encode())


def test_a_leading_comment_may_be_a_hint() -> None:
    assert hint("/* pgweir: primary */ select 1").target == "primary"
    assert hint("-- a\n/* b */ /*pgweir:replica*/ select 1").target == "replica"
    role = hint("/* pgweir: role=analytics, key=user:42 */ select 1")
    assert (role.target, role.role, role.consistency_key) == ("role", "analytics", "user:42")
    assert not role.has_odd_hint


def test_a_hint_changes_nothing_of_the_key() -> None:
    assert hint("/* pgweir: primary */ select 1").key == hint("select 1").key


def test_the_last_hint_wins() -> None:
    assert hint("/* pgweir: primary */ /* pgweir: replica */ select 1").target == "replica"


@pytest.mark.parametrize("odd", ["secondary", "role=", "key=", "", "primary replica", "PRIMARY"])
def test_what_is_no_hint_is_noticed(odd: str) -> None:
    lexed = hint(f"/* pgweir: {odd} */ select 1")
    assert (lexed.target, lexed.has_odd_hint) == (None, True)


@pytest.mark.parametrize(
    "text",
    ["select 1 /* pgweir: primary */", "/* not pgweir: primary */ select 1", "/* pgweir */", "--"],
)
def test_other_comments_are_no_hints(text: str) -> None:
    lexed = hint(text)
    assert (lexed.target, lexed.has_odd_hint) == (None, False)


def test_depth_counts_brackets_within_brackets() -> None:
    assert lex(b"select ((1)), array[(2)]").depth == 2
    assert lex(b"select " + b"(" * 100_000 + b")" * 100_000).depth == 100_000
