"""Regular expressions held against what strangers send.

Python's own engine backtracks: a pattern such as `(a+)+$` and a name made for it would keep the
process busy for ever. So a name is matched by Rust's engine, whose time is linear and which comes
with pydantic. It does not tell what a group held; where that is asked for (`\\1` in a user map),
Python's engine looks again at a name that has matched, and that is a name an authority or the
system vouches for.

Source: PostgreSQL documentation, "The pg_hba.conf File" (regular expressions begin with `/`).
"""

import re

from pydantic_core import SchemaError, SchemaValidator, core_schema

from proxy.auth.hba_text import UnreadableLineError


class Pattern:
    """A regular expression, as it stands behind the `/`. Raises UnreadableLineError.

    Found anywhere in a name, unless it is anchored; a dot matches any character.
    """

    __slots__ = ("_captures", "_matches", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        whole = f"(?s){text}"
        try:
            self._matches = SchemaValidator(
                core_schema.str_schema(pattern=whole, regex_engine="rust-regex", strict=True)
            )
            self._captures = re.compile(whole)
        except (SchemaError, re.error, OverflowError, RecursionError):
            raise UnreadableLineError(
                f'"{text}" is not a regular expression as this program understands them'
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    @property
    def groups(self) -> int:
        """How many groups it captures."""
        return self._captures.groups

    def matches(self, name: str) -> bool:
        """Whether it is found in a name, in time linear in the name's length."""
        # Bytes that were not UTF-8 must not slip past a rule that rejects.
        readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self._matches.isinstance_python(readable)

    def first_group(self, name: str) -> str | None:
        """What the first group held in a name, or None. For names that are vouched for."""
        if not self.matches(name):
            return None
        found = self._captures.search(name)
        return None if found is None else found[1]
