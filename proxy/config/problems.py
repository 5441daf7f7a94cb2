"""What is wrong with a configuration, said so that the reader can put it right.

A `Problem` names the place and says what is wrong and what would be right; a `ConfigError` carries
all of them at once. Values are quoted as they stand in the file, before `${NAME}` was expanded, and
never where a secret may stand.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from proxy.config.limits import Limits, Overrides
from proxy.config.section import KeyPath
from proxy.config.shape import section_at


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    file: as the operator named it, or None for environment variables and flags.
    line: counted from 1. path: `key.path`. text: what is wrong and what would be right.
    """

    file: str | None
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        """`FILE:LINE: key.path: text`; without a file, only `NAME: text`."""
        place = "" if self.file is None else f"{self.file}:{self.line}: "
        return f"{place}{self.path}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used. Its text has one line for each problem.

    files: those that it includes or names, as far as they are known: it may be mended there.
    """

    def __init__(self, problems: Sequence[Problem], files: Iterable[Path] = ()) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        self.files = tuple(files)


def write_path(path: KeyPath) -> str:
    """A path as people write it: `clusters.main.nodes[1].port`, list indices from 0."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written or "(all)"


def suggest(given: str, known: Sequence[str]) -> str:
    """The end of a sentence about a word nobody knows: the likeliest one meant, or all of them."""
    close = difflib.get_close_matches(given, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return "there is none"
    return f"known are {', '.join(known)}"


def _suggest_key(given: str, section: type[BaseModel] | None) -> str:
    """As `suggest`, for a key of a section; the many keys of limits are named as one."""
    known = list(section.model_fields) if section else []
    close = difflib.get_close_matches(given, known, n=1)
    if close or section is None or not issubclass(section, Overrides):
        return suggest(given, known)
    own = [key for key in known if key not in Limits.model_fields]
    return f"known are {', '.join(own)} and the keys of limits"


# Pydantic's name of an error -> what to say. `{…}` is filled from pydantic's context. Types in
# _QUOTING are about one short value, which is quoted behind it.
_SENTENCES = {
    "missing": "required, but absent",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a whole number of reasonable size",
    "int_from_float": "expected a whole number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "string_unicode": "expected UTF-8 text",
    "path_type": "expected a path",
    "tuple_type": "expected a list, such as [one, two]",
    "mapping_type": "expected a mapping of names, each with its keys",
    "model_type": "expected a mapping of keys",
    "string_too_short": "expected some text, got none",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
}
_QUOTING = frozenset(
    {
        "expected",
        "int_parsing",
        "int_parsing_size",
        "int_from_float",
        "bool_parsing",
        "greater_than",
        "greater_than_equal",
        "less_than_equal",
        "literal_error",
    }
)


def describe(error: ErrorDetails, root: type[BaseModel], written: Mapping[KeyPath, str]) -> str:
    """One of pydantic's errors in our words.

    written: scalars as they stand in the file, by their path.
    """
    kind, path = error["type"], tuple(error["loc"])
    context: dict[str, Any] = error.get("ctx", {})
    text: str
    if kind == "extra_forbidden":
        return f"unknown key; {_suggest_key(str(path[-1]), section_at(root, path[:-1]))}"
    if kind == "literal_error":
        text = "expected one of " + context["expected"].replace("'", "").replace(" or ", ", ")
    elif kind in _SENTENCES:
        text = _SENTENCES[kind].format(**context)
    else:
        text = error["msg"]
    if kind in _QUOTING and path in written:
        text += f", got {written[path]!r}"
    return text
