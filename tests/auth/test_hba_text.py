"""Lines, fields and words of HBA and map files, and the files that they include."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from proxy.auth.hba_text import Word, read_lines

ROOT = Path("/conf")


class Shelf:
    """Files in a mapping."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = {ROOT / name: text for name, text in files.items()}

    def read(self, path: Path) -> str:
        if path.name.startswith("forbidden"):
            raise PermissionError(13, "Permission denied")
        if path not in self._files:
            raise FileNotFoundError(2, "No such file or directory")
        return self._files[path]

    def list_conf(self, folder: Path) -> Sequence[Path]:
        found = sorted(path for path in self._files if path.parent == folder)
        if not found:
            raise FileNotFoundError(2, "No such file or directory")
        return found


def fields(text: str, **others: str) -> list[list[list[str]]]:
    """Texts of the words of all lines; those in quotes are shown in quotes."""
    lines, faults = read_lines(ROOT / "hba", Shelf({"hba": text, **others}))
    assert faults == []
    return [[[show(word) for word in field] for field in line.fields] for line in lines]


def show(word: Word) -> str:
    return f'"{word.text}"' if word.quoted else word.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n#all\n", []),
        ("a b\tc", [[["a"], ["b"], ["c"]]]),
        ("a#b c", [[["a"]]]),
        ('a "#b" c', [[["a"], ['"#b"'], ["c"]]]),
        ("a,b, c", [[["a", "b", "c"]]]),
        ("a , b", [[["a"], ["b"]]]),
        (",,a,, ,b", [[["a", "b"]]]),
        ("a, # and no more", [[["a"]]]),
        ('"a b",c', [[['"a b"', "c"]]]),
        ('a"b c"d', [[["ab cd"]]]),
        ('"a""b"', [[['"a"b"']]]),
        ('""', [[['""']]]),
        ('""all', [[['"all"']]]),
        ('"open to the end', [[['"open to the end"']]]),
        ("a \\\n b", [[["a"], ["b"]]]),
        ("a\\\nb", [[["ab"]]]),
        ("a b\\\r\nc", [[["a"], ["bc"]]]),
        ("a \\", [[["a"]]]),
        ("# a comment goes on \\\nhere", []),
        ("a\\b", [[["a\\b"]]]),
        ("\ufeffa", [[["a"]]]),
        ("é\u2028x", [[["é\u2028x"]]]),
        ("a\u00a0b", [[["a\u00a0b"]]]),
    ],
)
def test_a_text_is_cut_as_postgresql_cuts_it(text: str, expected: list[list[list[str]]]) -> None:
    assert fields(text) == expected


def test_a_line_has_the_number_of_its_first_line() -> None:
    lines, _ = read_lines(ROOT / "hba", Shelf({"hba": "# one\na\\\nb\\\nc\n\nd\n"}))
    assert [line.number for line in lines] == [2, 6]


def test_a_file_named_by_an_at_sign_stands_for_its_words() -> None:
    found = fields("a @users,last", users='one two, "three"\n# no\n@more\n', more="four")
    assert found == [[["a"], ["one", "two", '"three"', "four", "last"]]]


def test_an_at_sign_in_quotes_is_a_letter() -> None:
    assert fields('"@users" @') == [[['"@users"'], ["@"]]]


def test_included_lines_stand_where_they_are_included() -> None:
    found = fields(
        "one\ninclude sub/x.conf\ninclude_dir sub\ninclude_if_exists sub/none\nlast",
        **{"sub/x.conf": "x\ninclude y.conf", "sub/y.conf": "y"},
    )
    assert found == [[["one"]], [["x"]], [["y"]], [["x"]], [["y"]], [["y"]], [["last"]]]


def test_included_lines_know_their_file() -> None:
    lines, _ = read_lines(ROOT / "hba", Shelf({"hba": "a\ninclude b", "b": "\nx"}))
    assert [(str(line.file), line.number) for line in lines] == [("/conf/hba", 1), ("/conf/b", 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include gone", "/conf/gone cannot be read (No such file or directory)"),
        ("a @gone", "/conf/gone cannot be read (No such file or directory)"),
        ("include_dir gone", "the folder /conf/gone cannot be read (No such file or directory)"),
        ("include_if_exists forbidden", "/conf/forbidden cannot be read (Permission denied)"),
        ("include_if_exists hole", "/conf/gone cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, said: str) -> None:
    _, faults = read_lines(ROOT / "hba", Shelf({"hba": f"\n{text}\n", "hole": "include gone"}))
    assert [fault.text for fault in faults] == [said]


def test_a_file_that_includes_itself_comes_to_an_end() -> None:
    _, faults = read_lines(ROOT / "hba", Shelf({"hba": "include hba"}))
    assert [fault.text for fault in faults] == [
        "/conf/hba is included 11 deep; at most 10: does it include itself?"
    ]


def test_a_list_that_holds_itself_comes_to_an_end() -> None:
    _, faults = read_lines(ROOT / "hba", Shelf({"hba": "a @list", "list": "b @list"}))
    assert len(faults) == 1
    assert faults[0].file == ROOT / "hba"
