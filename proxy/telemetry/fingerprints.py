"""By what name a statement is known: its text without constants and comments. Pure.

The lexer of `proxy.sql` makes it, so it is the same text by which routing remembers a verdict. What
the lexer cannot read to its end (a text that was cut, an open quote) may have a constant anywhere:
of it only the first word is told.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.sql import lex

UNKNOWN = "(text not known: prepared under a name in session mode)"

_WORD = re.compile(rb"\s*([A-Za-z]{1,32})\b")
_AMBIGUOUS = frozenset({"SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"})
"""Encodings in which the second byte of a character may look like a quote."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A statement without what varies. id: short and stable, to search logs by."""

    id: str
    text: str


class Fingerprints:
    """Makes fingerprints; keeps the newest, so that those of one kind are one object."""

    def __init__(self, max_entries: int = 2000) -> None:
        self._max_entries = max_entries
        self._known: OrderedDict[bytes, Fingerprint] = OrderedDict()

    def of(self, text: bytes, *, is_cut: bool, settings: Mapping[str, str]) -> Fingerprint:
        """The fingerprint of a text as a client in these settings wrote it."""
        key = self._key_of(text, is_cut=is_cut, settings=settings)
        known = self._known.get(key)
        if known is None:
            digest = hashlib.blake2b(key, digest_size=6).hexdigest()
            known = self._known[key] = Fingerprint(digest, key.decode("utf-8", "replace"))
            if len(self._known) > self._max_entries:
                self._known.popitem(last=False)
        return known

    @staticmethod
    def _key_of(text: bytes, *, is_cut: bool, settings: Mapping[str, str]) -> bytes:
        if not text:
            return UNKNOWN.encode()
        lexed = lex(
            text,
            backslashes=settings.get("standard_conforming_strings") == "off",
            ambiguous_encoding=settings.get("client_encoding", "UTF8").upper() in _AMBIGUOUS,
        )
        if lexed.trouble is None and lexed.key:
            return lexed.key + b" ..." if is_cut else lexed.key
        word = _WORD.match(text)
        return (word[1].lower() if word else b"(not readable)") + b" ..."
