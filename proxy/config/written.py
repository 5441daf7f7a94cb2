"""A document as YAML text, for `pgweir convert`. Pure.

Read again, it is the same document: what `${NAME}` or `$$` would mean in YAML is written so that it
means itself.
"""

import re
from typing import Any

import yaml

from proxy.config.document import Document

_WIDTH = 100
# What YAML or a shell takes for the end of a line, or for a command to the terminal.
_UNSAFE = re.compile(r"[^ -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufffd]")


def write_yaml(document: Document, origin: str) -> str:
    """Write a document, with a comment for each thing it could not carry.

    origin: where it came from, for the first line.
    """
    lines = [f"From {origin}, by pgweir convert."]
    if document.remarks:
        lines += ["", "Not carried over:", *(f"  {each}" for each in document.remarks)]
    comments = "".join(f"# {_UNSAFE.sub('?', line)}".rstrip() + "\n" for line in lines)
    body = yaml.safe_dump(
        _covered(document.tree), sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    return f"{comments}\n{body}"


def _covered(value: Any) -> Any:
    """The value with dollar signs that nothing is put in the place of."""
    if isinstance(value, dict):
        return {key: _covered(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_covered(each) for each in value]
    if isinstance(value, str) and ("$$" in value or "${" in value):
        return value.replace("$", "$$")
    return value
