"""`${NAME}` and `${NAME:-default}`: values that the environment supplies.

A reference is expanded after the YAML has been understood, so that what is in the environment can
never change the shape of the file. Before that it is covered, because inside `{…}` and `[…]` YAML
would take its braces for its own.
"""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_COVERABLE = re.compile(r"\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}\n]*)?\}")


def expand(written: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}` from environ, and `$$` by one dollar sign.

    The default serves when the variable is unset or empty, as in a shell. A dollar sign before
    anything else stays, so verifiers and regular expressions can be written as they are.
    Raises ValueError with a sentence that names the variable and never its value.
    """

    def value_of(match: re.Match[str]) -> str:
        inner, closing = match.groups()
        if inner is None:
            return "$"
        name_and_default = _NAME.fullmatch(inner)
        if not closing or name_and_default is None:
            raise ValueError("write ${NAME} or ${NAME:-default}, or $$ for a dollar sign")
        name, default = name_and_default.groups()
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ValueError(
                f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
        return value

    return _REFERENCE.sub(value_of, written)


class Cover:
    """Puts a word that YAML does not look into in the place of each reference of a text.

    covered: the text with those words, line for line as before.
    """

    def __init__(self, text: str) -> None:
        # A character of the private use area that the text does not use, to mark our words.
        self._mark = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
        self._references: list[str] = []
        self.covered = _COVERABLE.sub(self._cover, text)

    def _cover(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$$"
        self._references.append(match[0])
        return f"{self._mark}{len(self._references) - 1}{self._mark}"

    def lift(self, value: str) -> str:
        """A piece of the covered text as it was written."""
        if self._mark not in value:
            return value
        return re.sub(
            f"{self._mark}([0-9]+){self._mark}",
            lambda match: self._references[int(match[1])],
            value,
        )
