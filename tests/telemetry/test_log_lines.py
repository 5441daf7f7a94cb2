"""What one record looks like as a line, and that nobody who is quoted in it can forge another."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.lines import MAX_LINE_BYTES, json_line, text_line

FORGERY = 'x\n2026-01-31T12:00:00.000Z INFO client connected user="root"'


def record(
    message: str = "client connected",
    facts: dict[str, object] | None = None,
    failure: BaseException | None = None,
) -> logging.LogRecord:
    made = logging.LogRecord(
        "pgweir.client",
        logging.INFO,
        __file__,
        1,
        message,
        None,
        (type(failure), failure, failure.__traceback__) if failure else None,
    )
    made.created, made.msecs = 1769860800.123, 123.0
    made.facts = facts
    return made


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as failure:
        return failure


def shown(fact: object) -> str:
    """How text shows the fact."""
    return text_line(record(facts={"fact": fact})).partition("fact=")[2]


def test_a_line_has_time_level_message_and_facts() -> None:
    line = text_line(record(facts={"database": "app", "user": "app", "addr": "127.0.0.1:5555"}))
    assert line == (
        "2026-01-31T12:00:00.123Z INFO client connected database=app user=app addr=127.0.0.1:5555"
    )


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("", '""'),
        ("-", '"-"'),
        (None, "-"),
        (True, "true"),
        (False, "false"),
        (17, "17"),
        (0.25, "0.25"),
        (1 / 3, "0.333333"),
        ("new\nline", r'"new\nline"'),
        ("cr\r\ttab", r'"cr\r\ttab"'),
        ("esc\x1b[2J", r'"esc\x1b[2J"'),
        ("nul\0", r'"nul\x00"'),
        ("c1\x9b", r'"c1\x9b"'),
        ("line\u2028separator", r'"line\u2028separator"'),
        ("\u202egnp", r'"\u202egnp"'),
        ("\U000e0041", r'"\U000e0041"'),
        ("ünï", '"ünï"'),
        ("\udcff", r'"\udcff"'),
        (b"caf\xe9", r'"caf\\xe9"'),
        ("[::1]:5432", "[::1]:5432"),
    ],
    ids=ascii,
)
def test_a_fact_is_shown_as(fact: object, text: str) -> None:
    assert shown(fact) == text


def test_a_long_fact_is_cut_and_says_by_how_much() -> None:
    assert shown("x" * 10_000) == '"' + "x" * 256 + '…(+9744)"'


@pytest.mark.parametrize("line_of", [text_line, json_line])
def test_a_fact_cannot_begin_a_line(line_of: object) -> None:
    assert "\n" not in line_of(record(facts={"user": FORGERY}))  # type: ignore[operator]


@pytest.mark.parametrize("line_of", [text_line, json_line])
def test_a_message_cannot_begin_a_line(line_of: object) -> None:
    assert "\n" not in line_of(record(message=FORGERY))  # type: ignore[operator]


def test_a_traceback_stands_behind_a_bar() -> None:
    _, *traceback = text_line(record(failure=raised(FORGERY))).split("\n")
    assert [line[:4] for line in traceback] == ["  | "] * len(traceback)


def test_a_traceback_ends_with_what_was_raised() -> None:
    assert text_line(record(failure=raised("too late"))).endswith("  | ValueError: too late")


def test_a_traceback_does_not_show_locals() -> None:
    def log_in() -> None:
        secret = "".join(["hun", "ter2"])
        raise ValueError(f"wrong password of {len(secret)} characters")

    with pytest.raises(ValueError, match="wrong") as caught:
        log_in()
    assert "hunter2" not in text_line(record(failure=caught.value))


def test_json_has_our_keys_and_the_facts() -> None:
    line = json_line(record(facts={"database": "app", "waited_s": 0.25, "tls": False, "why": None}))
    assert json.loads(line) == {
        "time": "2026-01-31T12:00:00.123Z",
        "level": "info",
        "logger": "pgweir.client",
        "message": "client connected",
        "database": "app",
        "waited_s": 0.25,
        "tls": False,
        "why": None,
    }


def test_json_keeps_a_fact_named_like_a_key_of_ours_apart() -> None:
    entry = json.loads(json_line(record(facts={"message": "from the server"})))
    assert (entry["message"], entry["message_"]) == ("client connected", "from the server")


def test_json_gives_a_name_back_as_it_was() -> None:
    entry = json.loads(json_line(record(facts={"user": FORGERY})))
    assert entry["user"] == FORGERY


def test_json_has_no_lone_surrogates() -> None:
    assert json.loads(json_line(record(facts={"user": "\udcff"})))["user"] == "\\udcff"


def test_json_knows_no_nan() -> None:
    assert json.loads(json_line(record(facts={"lag_s": float("nan")})))["lag_s"] == "nan"


def test_json_carries_the_traceback() -> None:
    entry = json.loads(json_line(record(failure=raised("too late"))))
    assert entry["traceback"].endswith("ValueError: too late")


def test_json_that_was_cut_says_so() -> None:
    facts: dict[str, object] = {f"fact{number}": "é" * 256 for number in range(20)}
    assert json.loads(json_line(record(facts=facts)))["truncated"] is True


def test_arguments_that_do_not_fit_do_not_lose_the_message() -> None:
    wrong = record(message="%d clients")
    wrong.args = ("many",)
    assert text_line(wrong).endswith("INFO %d clients")


facts_of_strangers = st.dictionaries(
    st.sampled_from(["user", "database", "addr", "message", "reason", "time"]),
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=600),
        st.binary(max_size=600),
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63),
        st.floats(),
    ),
)
any_text = st.text(st.characters(exclude_categories=()), max_size=1500)


@given(any_text, facts_of_strangers, st.none() | any_text)
def test_text_is_printable_and_fits_a_pipe_s_one_piece(
    message: str, facts: dict[str, object], failure: str | None
) -> None:
    line = text_line(record(message, facts, raised(failure) if failure is not None else None))
    first, *traceback = line.split("\n")
    assert first.isprintable()
    assert all(rest.startswith("  | ") and rest.isprintable() for rest in traceback)
    assert len(line.encode()) < MAX_LINE_BYTES


@given(any_text, facts_of_strangers, st.none() | any_text)
def test_json_is_one_object_of_ascii_and_fits_a_pipe_s_one_piece(
    message: str, facts: dict[str, object], failure: str | None
) -> None:
    line = json_line(record(message, facts, raised(failure) if failure is not None else None))
    assert line.isascii()
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)
    assert len(line) < MAX_LINE_BYTES
