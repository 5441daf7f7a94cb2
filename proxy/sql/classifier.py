"""Verdicts, remembered by their keys.

A text that differs from one seen before in its constants and comments alone has the same key, and
costs a look into a table. What is remembered is bounded by entries and by bytes; the one that was
asked for longest ago goes first.
"""

from collections import OrderedDict

from proxy.sql.catalogue import Catalogue
from proxy.sql.grammar import GrammarError, parse
from proxy.sql.lexer import Lexed, lex
from proxy.sql.reading import read_facts
from proxy.sql.verdict import Verdict, judge, unreadable

# What a verdict takes besides its key: measured, 1 KB for a plain SELECT; the names in its facts
# take up to sixteen times what they take in the key.
_ENTRY_BYTES = 1024
_BYTES_PER_KEY_BYTE = 16


class Classifier:
    """Says what texts would do. One for each picture of the functions: a new picture, a new one."""

    def __init__(
        self, catalogue: Catalogue, *, max_entries: int = 10_000, max_bytes: int = 32 << 20
    ) -> None:
        self._catalogue = catalogue
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def classify(
        self, text: bytes, *, backslashes: bool = False, ambiguous_encoding: bool = False
    ) -> tuple[Lexed, Verdict]:
        """Read a text as a client sent it; see `lex` for the options."""
        lexed = lex(text, backslashes=backslashes, ambiguous_encoding=ambiguous_encoding)
        if lexed.trouble is not None:
            return lexed, unreadable(lexed.trouble)
        return lexed, self.verdict_of(lexed.key, lexed.tokens, len(lexed.spans))

    def verdict_of(self, key: bytes, tokens: int, statements: int) -> Verdict:
        """Give the verdict on a key. tokens, statements: how many the lexer has counted."""
        verdict = self._verdicts.get(key)
        if verdict is not None:
            self.hits += 1
            self._verdicts.move_to_end(key)
            return verdict
        self.misses += 1
        verdict = self._find_verdict(key, tokens, statements)
        self._remember(key, verdict)
        return verdict

    def __len__(self) -> int:
        return len(self._verdicts)

    @property
    def held_bytes(self) -> int:
        """About how much memory the verdicts take."""
        return self._bytes

    def _find_verdict(self, key: bytes, tokens: int, statements: int) -> Verdict:
        try:
            facts = [read_facts(tree) for tree in parse(key, tokens)]
        except GrammarError as error:
            return unreadable(str(error))
        if len(facts) != statements:
            # The grammar is right; but whoever goes by the lexer's count would be wrong.
            return unreadable(f"{statements} statements by their ends, {len(facts)} by the grammar")
        return judge(facts, self._catalogue)

    def _remember(self, key: bytes, verdict: Verdict) -> None:
        cost = _cost_of(key)
        if cost > self._max_bytes:
            return
        self._verdicts[key] = verdict
        self._bytes += cost
        while len(self._verdicts) > self._max_entries or self._bytes > self._max_bytes:
            oldest, _ = self._verdicts.popitem(last=False)
            self._bytes -= _cost_of(oldest)


def _cost_of(key: bytes) -> int:
    return _ENTRY_BYTES + _BYTES_PER_KEY_BYTE * len(key)
