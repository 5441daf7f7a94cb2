"""Regular expressions held against what strangers send.

Python's own engine backtracks: a pattern such as `(a+)+$` and a name made for it would keep the
process busy for ever. So a name is matched by Rust's engine, whose time is linear and which comes
with pydantic. It does not tell what a group held; where that is asked for (`\\1` in a user map),
Python's engine looks again at a name that has matched, and that is a name an authority or the
system vouches for.

Source: PostgreSQL documentation, "The pg_hba.conf File" (regular expressions begin with `/`).
"""

import re
import warnings

from pydantic_core import SchemaError, SchemaValidator, core_schema

from proxy.auth.hba_text import UnreadableLineError


class Pattern:
    """A regular expression, as it stands behind the `/`. Raises UnreadableLineError.

    Found anywhere in a name, unless it is anchored; a dot matches any character.
    captures: `first_group` will be asked for.
    """

    __slots__ = ("_groups", "_matches", "text")

    def __init__(self, text: str, *, captures: bool = False) -> None:
        self.text = text
        self._groups = _read_groups(text) if captures else None
        try:
            self._matches = SchemaValidator(
                core_schema.str_schema(pattern=f"(?s){text}", regex_engine="rust-regex")
            )
        except SchemaError:
            raise _not_understood(text) from None

    def matches(self, name: str) -> bool:
        """Whether it is found in a name, in time linear in the name's length."""
        # Bytes that were not UTF-8 must not slip past a rule that rejects.
        readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self._matches.isinstance_python(readable)

    def first_group(self, name: str) -> str | None:
        """What the first group held in a name, or None. For names that are vouched for."""
        if self._groups is None or not self.matches(name):
            return None
        found = self._groups.search(name)
        return None if found is None else found[1]


def _read_groups(text: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may one day read in another way
            found = re.compile(f"(?s){text}")
    except (re.error, Warning, OverflowError, RecursionError):
        raise _not_understood(text) from None
    if not found.groups:
        raise UnreadableLineError(f'"{text}" captures nothing that \\1 could stand for')
    return found


def _not_understood(text: str) -> UnreadableLineError:
    return UnreadableLineError(
        f'"{text}" is not a regular expression as this program understands them'
    )
