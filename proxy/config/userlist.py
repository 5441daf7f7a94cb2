"""PgBouncer's `userlist.txt`: one line per user, `"name" "password"`.

Source: PgBouncer documentation, "Authentication File Format". Both are in double quotes, a double
quote inside is written twice, the rest of the line is ignored, `;` starts a comment line.
"""

import re

from pydantic_core import PydanticCustomError

from proxy.config.secret import Secret, refuse_damaged_verifier

# Possessive, because `"a""b"` is one field with a quote in it and never two fields.
_QUOTED = r'"((?:[^"]|"")*+)"'
_ENTRY = re.compile(rf"\s*{_QUOTED}\s*{_QUOTED}")


def read_userlist(text: str) -> tuple[dict[str, Secret], list[tuple[int, str]]]:
    """Passwords by user, and what is wrong: line (from 1) and sentence.

    text: the file, bytes that are no UTF-8 as by `surrogateescape`. Of a name that stands twice
    the last counts, as in PgBouncer. Unlike there, a broken line is reported instead of ending
    the list.
    """
    passwords: dict[str, Secret] = {}
    wrong: list[tuple[int, str]] = []
    # Not splitlines: U+2028 and its like may be in a password.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        entry = _ENTRY.match(line)
        if entry is None or not entry[1]:
            wrong.append((number, 'not an entry; write "name" "password"'))
            continue
        name, password = (quoted.replace('""', '"') for quoted in entry.groups())
        try:
            passwords[name] = refuse_damaged_verifier(Secret(password))
        except PydanticCustomError as error:
            wrong.append((number, error.message()))
    return passwords, wrong
