"""What one log record looks like as one line, in text and in JSON. Pure.

Facts may hold what a stranger sent: a user name, an application_name, an error's text. So nothing
in a line can end it, move the cursor or reverse the text around it, and everything is bounded: a
whole line fits the PIPE_BUF bytes that a pipe takes in one piece or not at all.
"""

import json
import logging
import math
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from traceback import format_exception

MAX_VALUE_CHARS = 256
MAX_MESSAGE_CHARS = 512
MAX_LINE_BYTES = 4096  # PIPE_BUF on Linux, pipe(7); the newline included
_MAX_TRACEBACK_CHARS = 2048

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_.:/@+*,;%$()\[\]{}<>-]+")
_JSON_OWN_KEYS = frozenset({"time", "level", "logger", "message", "traceback", "truncated"})
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def text_line(record: logging.LogRecord) -> str:
    """`2026-01-31T12:00:00.123Z INFO message key=value key="two words"`, without the newline.

    A traceback follows on lines of its own, each indented behind a bar, the innermost calls kept.
    """
    message, facts = facts_in_words(record)
    return one_line(record, [_time(record), record.levelname, message, *facts])


def facts_in_words(record: logging.LogRecord) -> tuple[str, list[str]]:
    """The message, and each fact as `key=value`."""
    facts = [f"{key}={_text_value(fact)}" for key, fact in _facts(record).items()]
    return _bounded(_message(record), MAX_MESSAGE_CHARS), facts


def one_line(record: logging.LogRecord, words: list[str]) -> str:
    """The words as one line that nothing in them can end, and the traceback, if there is one."""
    line = _cut_to_bytes(_escape(" ".join(words)), MAX_LINE_BYTES - 1)
    if not record.exc_info:
        return line
    left_bytes = MAX_LINE_BYTES - 1 - len(line.encode("utf-8"))
    return line + _text_traceback(record, left_bytes)


def json_line(record: logging.LogRecord) -> str:
    """One JSON object in ASCII, without the newline.

    Keys: time, level, logger, message, then the facts, then traceback where there is one. A fact
    named like one of ours gets an underscore behind its name. What does not fit is left out from
    the end, and `"truncated": true` says so.
    """
    entry: dict[str, object] = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _valid(_bounded(_message(record), MAX_MESSAGE_CHARS)),
    }
    for name, fact in _facts(record).items():
        key = _valid(str(name))
        entry[f"{key}_" if key in _JSON_OWN_KEYS else key] = _json_value(fact)
    traceback = _traceback(record)
    if traceback:
        entry["traceback"] = _valid(traceback[-_MAX_TRACEBACK_CHARS:])
    line = json.dumps(entry)
    while len(line) >= MAX_LINE_BYTES:
        entry.pop("truncated", None)
        key, value = entry.popitem()
        if key == "traceback" and len(str(value)) > 1:  # its end says most
            entry[key] = str(value)[len(str(value)) // 2 :]
        elif key == "message":
            entry[key] = str(value)[: len(str(value)) // 2]
        entry["truncated"] = True
        line = json.dumps(entry)
    return line


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit; say what there is
        return str(record.msg)


def _time(record: logging.LogRecord) -> str:
    return f"{_whole_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=1)  # lines of one second share it, and it is a third of a line's cost
def _whole_second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def _text_value(fact: object) -> str:
    if not isinstance(fact, str):
        if fact is None:
            return "-"
        if isinstance(fact, bool):
            return "true" if fact else "false"
        if isinstance(fact, int):
            return str(fact)
        if isinstance(fact, float):
            return f"{fact:.6g}"
    text = _bounded(_text(fact))
    if _NEEDS_NO_QUOTES.fullmatch(text) and text != "-":
        return text
    quoted = _escape(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{quoted}"'


def _json_value(fact: object) -> str | int | float | None:
    if fact is None or isinstance(fact, (bool, int)):
        return fact
    if isinstance(fact, float):
        return fact if math.isfinite(fact) else str(fact)
    return _valid(_bounded(_text(fact)))


def _text(fact: object) -> str:
    if isinstance(fact, str):
        return fact
    if isinstance(fact, (bytes, bytearray, memoryview)):
        return bytes(fact[: MAX_VALUE_CHARS * 4]).decode("utf-8", "backslashreplace")
    return str(fact)


def _bounded(text: str, max_chars: int = MAX_VALUE_CHARS) -> str:
    """The text, or its beginning and how many characters are missing."""
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}…(+{len(text) - max_chars})"


def _escape(text: str) -> str:
    """The text with everything that is not printable spelled out.

    Beside control characters that is, by Unicode's categories, also line and paragraph separators,
    marks that change the direction of writing, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _spelled(char) for char in text])


def _spelled(char: str) -> str:
    code = ord(char)
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _valid(text: str) -> str:
    """The text without lone surrogates, which strict readers of JSON refuse."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut_to_bytes(text: str, max_bytes: int) -> str:
    if 4 * len(text) <= max_bytes:
        return text
    encoded = text.encode("utf-8")  # escaped before, so it can be encoded
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "…"


def _traceback(record: logging.LogRecord) -> str:
    """Calls and the exception's own text, never the values of locals: they may hold secrets."""
    if record.exc_info and record.exc_info[1] is not None:
        return "".join(format_exception(record.exc_info[1])).rstrip("\n")
    return ""


def _text_traceback(record: logging.LogRecord, max_bytes: int) -> str:
    """The last lines of the traceback that fit, in order, each with a newline before it."""
    kept: list[str] = []
    for line in reversed(_traceback(record).split("\n")):
        shown = f"\n  | {_escape(_bounded(line))}"
        max_bytes -= len(shown.encode("utf-8"))
        if max_bytes < 0 or not line:
            break
        kept.append(shown)
    return "".join(reversed(kept))
