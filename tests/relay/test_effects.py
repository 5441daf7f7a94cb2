"""One look says of a text what it may leave in a session, as the words say one by one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.relay.relay import effects

WORDS = """
    select insert update delete with set reset discard do set_config pg_prepared_statements
    advisory pg_advisory_lock temp temporary hold withold nextval setval lastval currval
    execute prepare deallocate listen unlisten load explain pooling create rollback commit
    end abort local transaction true false default ; -- /* */ ' " $$ ( ) , = 1 v h m _ va s
    rr interval
""".split()  # noqa: SIM905 -- easier to read than sixty quoted words


def texts() -> st.SearchStrategy[bytes]:
    """Words that count and others, in any case, with and without space between them."""
    word = st.sampled_from(WORDS).flatmap(
        lambda word: st.sampled_from((word, word.upper(), word.title(), word[:-1], word[1:]))
    )
    space = st.sampled_from(("", " ", "\n", "\t ", ";", "_"))
    words = st.lists(st.tuples(word, space), max_size=12)
    return words.map(lambda parts: "".join(a + b for a, b in parts).encode())


@settings(max_examples=1000)
@given(texts())
@example(b"with" + b"old")
@example(b"SELECT 1;\n ;")
@example(b"select v")
@example(b"select h")
@example(b"select _")
@example(b"select 'm")
@example(b"select;")
@example(b"WITH x AS (SELECT 1) SELECT currval('s')")
def test_one_look_says_what_every_word_says(text: bytes) -> None:
    quick, full = effects(text)
    assert quick == full


def test_a_word_is_found_wherever_it_stands() -> None:
    # Sixteen bytes are looked at together: a word may lie across two pieces, or begin in the last.
    words = "nextval currval advisory temp hold set_config pg_prepared_statements ;listen".split()  # noqa: SIM905
    for word in (*words, *(word.upper() for word in words)):
        for before in range(36):
            for after in range(18):
                quick, full = effects(
                    b"select %s %s%s" % (b"x" * before, word.encode(), b" " * after)
                )
                assert quick == full != 0, (word, before, after)


@given(st.binary(max_size=40), st.sampled_from((b"", b"select ", b"insert", b"with")))
def test_bytes_of_any_kind_are_no_different(text: bytes, front: bytes) -> None:
    quick, full = effects(front + text)
    assert quick == full
