"""The trace a statement belongs to, where its text says: sqlcommenter's `traceparent`. Pure.

Sources: W3C, "Trace Context", section 3.2; sqlcommenter's specification, "Key-value format": a
comment at the end of the text, values in quotes and percent-encoded.
"""

import re
from dataclasses import dataclass

_COMMENT = re.compile(
    rb"traceparent\s*=\s*'((?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2}))'"
)
_COMMENTS_FROM = -2048
"""Only the end of a text is looked at: that is where the comment stands."""


@dataclass(frozen=True, slots=True)
class Traceparent:
    """As received. text: the whole of it, for logs."""

    text: str
    trace_id: int
    span_id: int
    is_sampled: bool


def traceparent_of(text: bytes) -> Traceparent | None:
    """The traceparent of a statement, or None where there is none or it is not valid."""
    tail = text[_COMMENTS_FROM:]
    if b"/*" not in tail:
        return None
    found = None
    for comment in re.findall(rb"/\*(.*?)\*/", tail, re.DOTALL):
        found = _COMMENT.search(comment) or found
    if found is None or not int(found[2], 16) or not int(found[3], 16):
        return None
    return Traceparent(
        found[1].decode(), int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1)
    )
