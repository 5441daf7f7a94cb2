"""A YAML text as a tree of plain values that remembers on which line each one stands.

Every scalar stays the text that was written: `12345` may be a password and `off` a mode, and only
the model knows which. `${NAME}` is expanded in values, not in keys. Anchors, aliases and merge keys
work; tags and keys given twice are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from proxy.config.expansion import Cover, expand
from proxy.config.problems import Problem
from proxy.config.section import KeyPath

# More values than any configuration has: aliases to aliases can name billions in a few lines.
_MOST_VALUES = 200_000

_YAML = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    _YAML + name
    for name in ("str", "null", "bool", "int", "float", "timestamp", "value", "map", "seq", "merge")
)

# A part of what PyYAML says -> what to do about it. The first that fits.
_ADVICE = {
    "'\\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed": "indent it anew, or put quotes around a value with a colon",
    "could not find expected ':'": "write key: value",
    "cannot start any token": "put quotes around the value",
    "alias": "put quotes around a value that begins with *",
    "tag": "put quotes around a value that begins with !",
    "anchor": "put quotes around a value that begins with &",
    "another document": "remove the line ---",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands that was not written where it stands in the tree. line: from 1."""

    file: str
    line: int
    name: str


@dataclass(slots=True)
class Document:
    """What a text says: YAML, or what another format comes to.

    tree: mappings, lists, text and None. lines: line of each key or list item, from 1, by its path.
    written: scalars as they stand in the file, before expansion. wrong: line, path and sentence of
    what could not be read; those values are absent from the tree.
    Of another format: places: where values stand there. problems: what could not be read at all.
    remarks: what it says and nothing here does.
    """

    tree: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)
    wrong: list[tuple[int, KeyPath, str]] = field(default_factory=list)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def place_of(self, path: KeyPath) -> Place | None:
        """Where the value at path stands in the other format, or the nearest one around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path)

    def line_of(self, path: KeyPath) -> int:
        """Line of the value at path, or of the nearest one around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class UnreadableError(Exception):
    """The text is no YAML at all. line: from 1. reason: what is wrong, without any value."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def read_document(text: str, environ: Mapping[str, str]) -> Document:
    """Read one YAML document.

    Raises UnreadableError when the text is no YAML. Everything else that is wrong is noted in the
    result, so that it can be told together with what the model finds.
    """
    cover = Cover(text)
    try:
        root = yaml.compose(cover.covered, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableError(1 if mark is None else mark.line + 1, _reason(error)) from None
    except yaml.YAMLError as error:
        # Only the reader's: a character that may not stand in YAML.
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        raise UnreadableError(line, "a control character; remove it") from None
    except RecursionError:
        raise UnreadableError(1, "nested too deeply; no configuration needs that") from None
    document = Document()
    if root is not None:
        document.lines[()] = root.start_mark.line + 1
        document.tree = _Reader(document, cover, environ).read(root, (), ())
    return document


def _reason(error: yaml.MarkedYAMLError) -> str:
    """What PyYAML found wrong, without the words it quotes: they may be part of a password."""
    problem = re.sub(
        r"'([^']*)'",
        lambda quoted: quoted[0] if len(quoted[1]) < 2 or quoted[1][0] in "<\\" else "'…'",
        error.problem or "unreadable",
    )
    for sign, advice in _ADVICE.items():
        if sign in problem:
            return f"{problem}; {advice}"
    return f"{problem}; close what was opened, and indent what belongs together alike"


class _Reader:
    """Turns nodes into values, and notes lines and mistakes in the document as it goes."""

    def __init__(self, document: Document, cover: Cover, environ: Mapping[str, str]) -> None:
        self._document = document
        self._cover = cover
        self._environ = environ
        self._values = 0

    def read(self, node: yaml.Node, path: KeyPath, around: tuple[int, ...]) -> Any:
        """The value of a node. around: ids of the nodes it is in, to see an alias to itself."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise UnreadableError(node.start_mark.line + 1, "aliases multiply without end")
        if id(node) in around:
            self._note(node, path, "an alias to what it is a part of; write the value out")
            return None
        if node.tag not in _PLAIN_TAGS:
            self._note(node, path, "a YAML tag; put quotes around a value that begins with !")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*around, id(node)))
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path, (*around, id(node)))
        return self._scalar(node.value, node, path)

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, around: tuple[int, ...]
    ) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        first_line: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _YAML + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._document.wrong.append((line, path, "a key must be a single word"))
                continue
            name = self._cover.lift(key.value)
            here = (*path, name)
            if name in first_line:
                self._document.wrong.append(
                    (line, here, f"already given on line {first_line[name]}; keep one")
                )
                continue
            first_line[name] = self._document.lines[here] = line
            mapping[name] = self.read(value, here, around)
        for node_to_merge in merged:
            self._merge(node_to_merge, mapping, path, around)
        return mapping

    def _merge(
        self, node: yaml.Node, mapping: dict[str, Any], path: KeyPath, around: tuple[int, ...]
    ) -> None:
        """Add the keys of `<<`, except those the mapping has itself: YAML's merge key."""
        if not isinstance(node, yaml.MappingNode) or id(node) in around:
            self._note(node, path, "<< takes a mapping, such as <<: *name")
            return
        for key, value in node.value:
            name = self._cover.lift(str(key.value))
            if key.tag == _YAML + "merge":
                self._merge(value, mapping, path, (*around, id(node)))
            elif isinstance(key, yaml.ScalarNode) and name not in mapping:
                self._document.lines[(*path, name)] = key.start_mark.line + 1
                mapping[name] = self.read(value, (*path, name), (*around, id(node)))

    def _sequence(
        self, node: yaml.SequenceNode, path: KeyPath, around: tuple[int, ...]
    ) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self._document.lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.read(item, (*path, index), around))
        return items

    def _scalar(self, written: str, node: yaml.Node, path: KeyPath) -> str | None:
        if node.tag == _YAML + "null":
            return None
        written = self._cover.lift(written)
        self._document.written[path] = written
        try:
            return expand(written, self._environ)
        except ValueError as error:
            self._note(node, path, str(error))
            return None

    def _note(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self._document.wrong.append((node.start_mark.line + 1, path, text))
