"""What is suspected by the text of a function, and who is suspected with it."""

import pytest

from proxy.relay import Leaves
from proxy.relay.relay import Suspects
from proxy.session.following import Touched
from proxy.session.suspects import CodeRow, ExpressionRow, Suspect, UseRow, find_suspects

ALL = Leaves.SETTINGS | Leaves.PINS | Leaves.STATEMENTS | Leaves.CHANNELS
NOTHING = Leaves(0)


def plpgsql(name: str, *statements: str) -> CodeRow:
    return CodeRow(name, "plpgsql", f"BEGIN {'; '.join(statements)}; END", is_field=False)


def only(row: CodeRow) -> Suspect | None:
    found = find_suspects([row], [])
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "leaves", "settings", "anything"),
    [
        ("PERFORM set_config('app.tenant', who, false)", Leaves.SETTINGS, {"app.tenant"}, False),
        ("PERFORM pg_catalog.set_config('App.X'::text, x, b)", Leaves.SETTINGS, {"app.x"}, False),
        ("SET work_mem = '1MB'", Leaves.SETTINGS, {"work_mem"}, False),
        ("SET SESSION app.x TO '1'", Leaves.SETTINGS, {"app.x"}, False),
        ("SET work_mem TO DEFAULT", Leaves.SETTINGS, {"work_mem"}, True),
        ("SET TIME ZONE 'UTC'", Leaves.SETTINGS, {"timezone"}, False),
        ("SET ROLE a", Leaves.SETTINGS, {"role", "session_authorization"}, False),
        ("SET SESSION AUTHORIZATION a", Leaves.SETTINGS, {"role", "session_authorization"}, False),
        ("EXECUTE 'SET ROLE ' || quote_ident(who)", Leaves.SETTINGS,
         {"role", "session_authorization"}, False),
        ("IF a THEN SET work_mem = '1MB'; END IF", Leaves.SETTINGS, {"work_mem"}, False),
        ("/* why */ SET /* not */ work_mem = '1MB'", Leaves.SETTINGS, {"work_mem"}, False),
        ("PERFORM pg_advisory_lock(1)", Leaves.PINS, set(), False),
        ("PERFORM pg_try_advisory_lock_shared(1)", Leaves.PINS, set(), False),
        ("CREATE TEMP TABLE t (a int)", Leaves.PINS, set(), False),
        ("CREATE TABLE pg_temp.t (a int)", Leaves.PINS, set(), False),
        ("SELECT 1 INTO TEMPORARY t", Leaves.PINS, set(), False),
        ("EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'", Leaves.PINS, set(), False),
        ("EXECUTE 'PREPARE p AS SELECT 1'", Leaves.STATEMENTS, set(), False),
        ("EXECUTE 'LISTEN news'", Leaves.CHANNELS, set(), False),
        ("EXECUTE format('LISTEN %I', channel)", Leaves.CHANNELS, set(), False),
        ("LOAD 'auto_explain'", Leaves.HIDDEN | Leaves.PINS, set(), False),
        ("x := nextval('s')", Leaves.USES_SEQUENCE, set(), False),
        ("x := lastval()", Leaves.TELLS_SEQUENCE, set(), False),
        ("RESET ALL", ALL, set(), True),
        ("EXECUTE command", ALL, set(), True),
        ("EXECUTE format(command, 'app.x')", ALL, {"app.x"}, True),
        ("EXECUTE format('%s', command)", ALL, set(), True),
        ("PERFORM query_to_xml(command, true, true, '')", ALL, set(), True),
    ],
)  # fmt: skip
def test_what_a_text_may_leave(
    text: str, leaves: Leaves, settings: set[str], *, anything: bool
) -> None:
    suspect = only(plpgsql("f", text))
    assert suspect is not None
    assert suspect.called == leaves
    assert suspect.touched == Touched(frozenset(settings), anything)


@pytest.mark.parametrize(
    "text",
    [
        "PERFORM set_config('app.tenant', who, true)",
        "PERFORM set_config('app.tenant', coalesce(who, ''), true)",
        "SET LOCAL work_mem = '1MB'",
        "SET CONSTRAINTS ALL DEFERRED",
        "UPDATE t SET work_mem = '1MB'",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
        "PERFORM pg_advisory_xact_lock(1)",
        "EXECUTE 'UPDATE t SET a = 1'",
        "EXECUTE format('UPDATE %I SET a = 1', name)",
        "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f()",
        "GRANT EXECUTE ON FUNCTION f() TO a",
        "NOTIFY news",
        "PERFORM query_to_xml('SELECT 1', true, true, '')",
        "new.template := old.temp",
    ],
)
def test_what_leaves_nothing_is_not_suspected(text: str) -> None:
    assert only(plpgsql("f", text)) is None


@pytest.mark.parametrize(
    "name", ["name", "'app.' || name", "current.name", "format('app.%s', name)"]
)
def test_a_setting_whose_name_is_computed_cannot_be_asked_for(name: str) -> None:
    suspect = only(plpgsql("f", f"PERFORM set_config({name}, 'x', false)"))
    assert suspect is not None
    assert Leaves.HIDDEN in suspect.called


def test_who_calls_a_suspect_is_one() -> None:
    found = find_suspects(
        [
            plpgsql("outer_one", "PERFORM middle()"),
            plpgsql("middle", 'PERFORM "inner"(1)'),
            plpgsql("inner", "PERFORM set_config('app.a', 'b', false)"),
            plpgsql("innocent", "x := inner"),
            CodeRow("in_c", "c", "", is_field=False),
        ],
        [],
    )
    assert {each.name for each in found} == {"outer_one", "middle", "inner"}
    assert {each.touched.names for each in found} == {frozenset({"app.a"})}


def test_what_calls_itself_ends() -> None:
    row = plpgsql("f", "PERFORM g()"), plpgsql("g", "PERFORM f()", "LISTEN a")
    assert {each.name for each in find_suspects(row, [])} == {"f", "g"}


def test_a_table_stands_for_its_triggers_where_it_is_written_to() -> None:
    found = find_suspects(
        [
            plpgsql("fires", "SET ROLE a"),
            plpgsql("reads", "PERFORM FROM orders"),
            plpgsql("writes", "DELETE FROM orders"),
        ],
        [UseRow("orders", "fires", is_function=True, on_write=True)],
    )
    by_name = {each.name: each for each in found}
    assert set(by_name) == {"fires", "orders", "writes"}
    assert by_name["orders"].named == NOTHING
    assert by_name["orders"].written == Leaves.SETTINGS
    assert by_name["writes"].called == Leaves.SETTINGS


def test_a_view_stands_for_what_it_calls_and_for_what_it_is_over() -> None:
    found = find_suspects(
        [plpgsql("f", "LISTEN a")],
        [
            UseRow("over", "below", is_function=False, on_write=False),
            UseRow("below", "f", is_function=True, on_write=False),
            UseRow("f", "f", is_function=False, on_write=False),
        ],
    )
    assert {each.name: each.named for each in found if each.name != "f"} == {
        "over": Leaves.CHANNELS,
        "below": Leaves.CHANNELS,
    }


def test_an_expression_that_calls_what_sets_stands_for_that() -> None:
    found = find_suspects(
        [plpgsql("fills", "INSERT INTO orders VALUES (1)")],
        [UseRow("over", "shown", is_function=False, on_write=False)],
        [
            ExpressionRow("orders", "set_config('app.a'::text, 'b'::text, false)", on_write=True),
            ExpressionRow("shown", "SELECT pg_advisory_lock(1)", on_write=False),
            ExpressionRow("local", "set_config('app.a'::text, 'b'::text, true)", on_write=False),
        ],
    )
    by_name = {each.name: each for each in found}
    assert set(by_name) == {"orders", "fills", "shown", "over"}
    assert by_name["orders"].named == NOTHING
    assert by_name["orders"].written == by_name["fills"].called == Leaves.SETTINGS
    assert by_name["orders"].touched.names == {"app.a"}
    assert by_name["shown"].named == by_name["over"].named == Leaves.PINS


# --- looking through a text ----------------------------------------------------------------------

TOUCHED = Touched(frozenset({"app.a"}), anything=False)
KNOWN = Suspects(
    [
        ("become", int(Leaves.SETTINGS), 0, 0, TOUCHED),
        ("a view", 0, int(Leaves.PINS), 0, TOUCHED),
        ("orders", 0, 0, int(Leaves.CHANNELS), TOUCHED),
        ("größe", int(Leaves.PINS), 0, 0, TOUCHED),
    ]
)


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("SELECT become('x')", Leaves.SETTINGS),
        ("SELECT app.BECOME ('x')", Leaves.SETTINGS),
        ('SELECT "become"\n(1)', Leaves.SETTINGS),
        ("SELECT become/* why */(1)", Leaves.SETTINGS),
        ("CALL become()", Leaves.SETTINGS),
        ("SELECT become, become2(), xbecome(), become$() FROM t", NOTHING),
        ('SELECT * FROM "a view"', Leaves.PINS),
        ("SELECT * FROM orders", NOTHING),
        ("INSERT INTO orders VALUES (1)", Leaves.CHANNELS),
        ("WITH d AS (DELETE FROM orders RETURNING *) SELECT become(1) FROM d",
         Leaves.CHANNELS | Leaves.SETTINGS),
        ("SELECT größe(1)", Leaves.PINS),
        ("", NOTHING),
        ("become", NOTHING),
        ("SELECT 1\0become(1)", NOTHING),
    ],
)  # fmt: skip
def test_names_are_found_in_a_text(text: str, leaves: Leaves) -> None:
    effect, touched = KNOWN.find(text.encode())
    assert Leaves(effect) == leaves
    assert touched == ([TOUCHED] if leaves else [])


def test_until_it_is_known_everything_is_suspected() -> None:
    effect, _ = Suspects([], suspects_all=True).find(b"SELECT 1")
    assert Leaves(effect & ~4) == ALL


def test_many_names_are_told_apart() -> None:
    many = Suspects([(f"f{n}", int(Leaves.PINS), 0, 0, n) for n in range(0, 20_000, 2)])
    for n in range(20_000):
        effect, touched = many.find(f"SELECT f{n}()".encode())
        assert touched == ([n] if n % 2 == 0 else [])
        assert bool(effect) is (n % 2 == 0)
