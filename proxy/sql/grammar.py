"""PostgreSQL's own grammar: from a text to its trees, within bounds.

libpg_query is PostgreSQL's parser as a library; `postgast` carries it. Of its two outputs we take
JSON: it is read in a quarter of the time of its protobuf messages, and those may be only a hundred
levels deep, which forty chained `||` already are.

A chain such as `1+1+1+…` makes a tree as deep as it is long, and the library descends it by
recursion until the stack ends: 60,000 levels ended the process with a stack of 8 MiB. So a text is
refused before that: each level has two tokens at least. (Brackets are bounded by the parser
itself, at 10,000.)
"""

import json
from typing import Any

from postgast.native import lib

# A node of the tree: {"kind of node": {"field": …}}, or the inside of one.
Tree = dict[str, Any]

MAX_BYTES = 65536
# 4096 levels: a tenth of what was seen to fit in 8 MiB. And some 50 ms of work at worst.
MAX_TOKENS = 8192


class GrammarError(Exception):
    """PostgreSQL would not understand the text, or we do not dare to try."""


def parse(text: bytes, tokens: int | None = None) -> list[Tree]:
    """Give the tree of each statement.

    text: a key; or what a client sent, if its standard_conforming_strings is on.
    tokens: how many the lexer has counted in a key; without, each byte counts for one.
    Bytes that are no UTF-8 come out by `surrogateescape`. Raises GrammarError.
    """
    if tokens is None:
        tokens = len(text)
    if tokens > MAX_TOKENS:
        raise GrammarError(f"more than {MAX_TOKENS} tokens")
    if len(text) > MAX_BYTES:
        raise GrammarError(f"longer than {MAX_BYTES} bytes")
    result = lib.pg_query_parse(text)
    try:
        if result.error:
            message = result.error.contents.message or b"syntax error"
            raise GrammarError(message.decode("utf-8", "replace"))
        tree = result.parse_tree.decode("utf-8", "surrogateescape")
    finally:
        lib.pg_query_free_parse_result(result)
    try:
        statements = json.loads(tree)["stmts"]
    except RecursionError:
        raise GrammarError("nested too deeply") from None
    return [each["stmt"] for each in statements]
