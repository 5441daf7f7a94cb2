"""Text of HBA and user map files, cut into lines of fields of words.

Knows comments, quotes, lists, continued lines, `@file` and the three `include` words; knows nothing
of what a field means. Files are read by whoever calls, through `Files`.

Source: PostgreSQL documentation, "The pg_hba.conf File".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

# PostgreSQL: CONF_FILE_MAX_DEPTH. Ends files that include themselves.
_MOST_NESTED = 10
_BLANKS = " \t\r"


class Files(Protocol):
    """Where text comes from."""

    def read(self, path: Path) -> str:
        """Give a file's text; bytes that are not UTF-8 as by `surrogateescape`. Raises OSError."""

    def list_conf(self, folder: Path) -> Sequence[Path]:
        """Give the folder's files that end in `.conf`, in the order of their names.

        Those whose names begin with a dot are not among them. Raises OSError.
        """


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Word:
    """One element of a field. quoted: it began with a quote, so that it is no keyword.

    is_led: a comma stands before it.
    """

    text: str
    quoted: bool = False
    is_led: bool = False

    def is_keyword(self, *keywords: str) -> bool:
        """Whether it is one of these, and not in quotes."""
        return not self.quoted and self.text in keywords


Field = tuple[Word, ...]
"""One field of a line: a list of words, most often of one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty. number: of its first line in the file, from 1."""

    file: Path
    number: int
    fields: tuple[Field, ...]

    def joined(self) -> "Line | None":
        """The line as PgBouncer cuts it, None where it cuts as PostgreSQL does.

        There, a list goes on behind a comma whatever blanks are before it: `a , b` is one field.
        """
        fields: list[Field] = []
        for field in self.fields:
            if fields and field[0].is_led:
                fields[-1] += field
            else:
                fields.append(field)
        return None if len(fields) == len(self.fields) else replace(self, fields=tuple(fields))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line, said to the operator."""

    file: Path
    number: int
    text: str


class UnreadableLineError(ValueError):
    """A line cannot be understood. Says why, and quotes no option's value: it may be a secret."""


def read_each(
    lines: Iterable[Line], read_line: Callable[[Line], _T]
) -> tuple[list[_T], list[Fault]]:
    """Read line by line. Result: what was read, and a fault for each line that was refused.

    read_line: raises UnreadableLineError.
    """
    read: list[_T] = []
    faults: list[Fault] = []
    for line in lines:
        try:
            read.append(read_line(line))
        except UnreadableLineError as wrong:
            faults.append(Fault(line.file, line.number, str(wrong)))
    return read, faults


def read_lines(path: Path, files: Files) -> tuple[list[Line], list[Fault]]:
    """Read a file with all that it includes, in order. Raises OSError for the file itself."""
    text = files.read(path)
    reading = _Reading(files)
    reading.take(path, text, 0)
    return reading.lines, reading.faults


class _Reading:
    """One reading of a file and of what it includes."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.lines: list[Line] = []
        self.faults: list[Fault] = []

    def take(self, path: Path, text: str, depth: int) -> None:
        """Take all lines of a file."""
        for number, line in _joined(text):
            try:
                fields = tuple(self._fields(path, line, depth))
                if fields and not self._include(path, fields, depth):
                    self.lines.append(Line(path, number, fields))
            except UnreadableLineError as wrong:
                self.faults.append(Fault(path, number, str(wrong)))

    def _fields(self, path: Path, line: str, depth: int) -> Iterator[Field]:
        if "\0" in line:
            raise UnreadableLineError("a NUL, which no name can hold")
        for words in _cut(line):
            field: list[Word] = []
            for word in words:
                if word.text.startswith("@") and len(word.text) > 1 and not word.quoted:
                    field += self._listed(path.parent / word.text[1:], depth + 1)
                else:
                    field.append(word)
            if field:
                yield tuple(field)

    def _listed(self, path: Path, depth: int) -> Iterator[Word]:
        """All words of a file named by `@`, whatever lines and fields they stand in."""
        for _, line in _joined(self._text_of(path, depth)):
            for field in self._fields(path, line, depth):
                yield from field

    def _include(self, path: Path, fields: tuple[Field, ...], depth: int) -> bool:
        """Take what a line includes. Result: whether it is such a line."""
        if len(fields) != 2:
            return False
        word, target = fields[0][0].text, path.parent / fields[1][0].text
        if word == "include":
            self.take(target, self._text_of(target, depth + 1), depth + 1)
        elif word == "include_if_exists":
            try:
                text = self._text_of(target, depth + 1)
            except _MissingFileError:
                return True
            self.take(target, text, depth + 1)
        elif word == "include_dir":
            try:
                names = self._files.list_conf(target)
            except OSError as error:
                raise UnreadableLineError(
                    f"the folder {target} cannot be read ({error.strerror})"
                ) from None
            for name in names:
                self.take(name, self._text_of(name, depth + 1), depth + 1)
        else:
            return False
        return True

    def _text_of(self, path: Path, depth: int) -> str:
        if depth > _MOST_NESTED:
            raise UnreadableLineError(
                f"{path} is included {depth} deep; at most {_MOST_NESTED}: does it include itself?"
            )
        try:
            return self._files.read(path)
        except FileNotFoundError as error:
            raise _MissingFileError(f"{path} cannot be read ({error.strerror})") from None
        except OSError as error:
            raise UnreadableLineError(f"{path} cannot be read ({error.strerror})") from None


class _MissingFileError(UnreadableLineError):
    """A file that is not there."""


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; one that ends in a backslash goes on in the next."""
    begun, number = "", 0
    for here, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.rstrip("\r")
        number = number or here
        if line.endswith("\\"):
            begun += line[:-1]
            continue
        yield number, begun + line
        begun, number = "", 0
    if number:
        yield number, begun


def _cut(line: str) -> Iterator[list[Word]]:
    """Fields of a line: words with commas between them."""
    words: list[Word] = []
    for word, goes_on in _words(line):
        words.append(word)
        if not goes_on:
            yield words
            words = []
    if words:
        yield words


def _words(line: str) -> Iterator[tuple[Word, bool]]:
    """Words of a line, and whether a comma stood right behind.

    A quote may begin anywhere in a word; written twice within quotes it stands for itself.
    """
    at, end = 0, len(line)
    is_led = False
    while at < end:
        if line[at] in _BLANKS or line[at] == ",":
            is_led = is_led or line[at] == ","
            at += 1
            continue
        letters: list[str] = []
        in_quotes = after_quote = was_quoted = begins_quoted = False
        while at < end and (in_quotes or line[at] not in _BLANKS):
            letter = line[at]
            if letter == "#" and not in_quotes:
                at = end
                break
            if letter == "," and not in_quotes:
                break
            if letter != '"' or after_quote:
                letters.append(letter)
            after_quote = letter == '"' and in_quotes and not after_quote
            if letter == '"':
                in_quotes = not in_quotes
                was_quoted = True
                begins_quoted = begins_quoted or not letters
            at += 1
        comma = at < end and line[at] == ","
        if letters or was_quoted:
            yield Word("".join(letters), begins_quoted, is_led), comma
        is_led = False
