"""One value of a configuration changed while the program runs. Pure.

Only what is one value, holds for the whole process and is taken up without a restart can be changed
in this way; names of files, secrets, nodes, databases and users are the file's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proxy.config.change import when_it_holds
from proxy.config.contradictions import find_contradictions
from proxy.config.model import Config
from proxy.config.secret import Secret
from proxy.config.section import KeyPath, Section
from proxy.errors import ClientError

_SETTABLE = ("limits", "listen", "log", "auth")
_IN_THE_FILE = ("users", "groups", "ldap", "pam", "oauth")


def is_changeable(path: KeyPath) -> bool:
    """Whether another value is taken up without a restart."""
    return when_it_holds(path) != "restart"


def with_value(config: Config, path: KeyPath, written: str) -> Config:
    """The configuration with another value at this path, written as in the file.

    Raises ClientError: 42704 when there is no such key, 55P02 when it cannot be changed in this
    way, 22023 when the value is wrong.
    """
    key = ".".join(str(each) for each in path)
    owners, before = _find(config, path, key)
    if not _is_settable(path, before):
        raise ClientError(
            "55P02",
            f'parameter "{key}" cannot be changed now',
            hint="Change it in the configuration file.",
        )
    try:
        changed = _rebuilt(config, owners, path, _value(before, written))
    except ValidationError as wrong:
        raise _refused(key, written, wrong.errors()[0]["msg"]) from None
    known = {each.text for each in find_contradictions(config)}
    for contradiction in find_contradictions(changed):
        if contradiction.text not in known:
            raise _refused(key, written, contradiction.text)
    return changed


def _refused(key: str, written: str, reason: str) -> ClientError:
    return ClientError("22023", f'invalid value for parameter "{key}": "{written}"', detail=reason)


def _find(config: Config, path: KeyPath, key: str) -> tuple[list[Section], Any]:
    """The sections on the way, below the root, and the value at the end."""
    owners: list[Section] = []
    value: Any = config
    for name in path:
        if not isinstance(value, Section) or name not in type(value).model_fields:
            raise ClientError(
                "42704",
                f'unrecognized configuration parameter "{key}"',
                hint="SHOW CONFIG lists them.",
            )
        owners.append(value)
        value = getattr(value, str(name))
    return owners[1:], value


def _is_settable(path: KeyPath, value: Any) -> bool:
    last = str(path[-1])
    return (
        path[0] in _SETTABLE
        and not any(name in _IN_THE_FILE for name in path[1:])
        and not isinstance(value, Section | Mapping | Secret | Path)
        and not ("password" in last or "file" in last or last in ("ca", "cert", "key"))
        and is_changeable(path)
    )


def _rebuilt(config: Config, owners: list[Section], path: KeyPath, value: Any) -> Config:
    for owner, name in zip(reversed(owners), reversed(path), strict=False):
        kept = {each: getattr(owner, each) for each in owner.model_fields_set}
        value = type(owner).model_validate({**kept, str(name): value})
    return config.model_copy(update={str(path[0]): value})


def _value(before: Any, written: str) -> Any:
    if isinstance(before, tuple):
        return tuple(each.strip() for each in written.split(",") if each.strip())
    if isinstance(before, bool) or not isinstance(before, int | float):
        return written
    return int(written) if written.isdecimal() else written
