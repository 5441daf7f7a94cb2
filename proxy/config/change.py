"""What changes when one configuration takes the place of another, and from when on it holds. Pure.

For who reloads: the list is what the log and the console show. Nothing is carried out here; the
composition root goes over to the new configuration, and this says to what that comes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from proxy.config.model import Config
from proxy.config.quantities import Quantity, format_duration, format_size
from proxy.config.secret import Secret
from proxy.config.section import KeyPath

When = Literal["now", "new connections", "restart"]

_ANY = "*"
# The first pattern that a path begins with says from when on it holds; `*` is any one name.
_WHEN: tuple[tuple[KeyPath, When], ...] = (
    (("listen", "host"), "restart"),
    (("listen", "port"), "restart"),
    (("listen", "unix_socket_dir"), "restart"),
    (("listen", "unix_socket_mode"), "restart"),
    (("listen", "unix_socket_group"), "restart"),
    (("listen", "so_reuseport"), "restart"),
    (("listen", "backlog"), "restart"),
    (("listen", "max_client_conn"), "now"),
    (("listen",), "new connections"),
    (("http", "auth"), "now"),
    (("http",), "restart"),
    (("workers",), "restart"),
    (("redis",), "restart"),
    (("process", "pidfile"), "restart"),
    (("process", "user"), "restart"),
    # Who is in stays in, with the limits that hold for them now.
    (("auth", "users", _ANY, "password"), "new connections"),
    (("auth", "users", _ANY, "old_password"), "new connections"),
    (("auth", "users", _ANY), "now"),
    (("auth",), "new connections"),
    (("clusters", _ANY, "server"), "new connections"),
    (("clusters", _ANY, "query"), "new connections"),
    (("clusters", _ANY, "query_user"), "new connections"),
    (("clusters", _ANY, "query_database"), "new connections"),
    (("databases", _ANY, "server"), "new connections"),
    (("databases", _ANY, "server_settings"), "new connections"),
    (("databases", _ANY, "connect_query"), "new connections"),
    (("limits", "client_login_timeout"), "new connections"),
    (("limits", "server_connect_timeout"), "new connections"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is another one now.

    before, after: as they would be written, secrets hidden; None where there was, or is, nothing.
    """

    path: str
    before: str | None
    after: str | None
    when: When

    def __str__(self) -> str:
        """`limits.pool_size: 20 -> 40, now`."""
        if self.before is None:
            what = f"added {self.after}" if self.after else "added"
        elif self.after is None:
            what = "removed"
        elif self.before == self.after:
            what = "changed"
        else:
            what = f"{self.before} -> {self.after}"
        holds = {"now": "now", "new connections": "for new connections", "restart": "at a restart"}
        return f"{self.path}: {what}, {holds[self.when]}"


def changes_between(before: Config, after: Config) -> tuple[Change, ...]:
    """All that differs, in the order of the keys; nothing when they are equal."""
    return tuple(_in_sections(before, after, ()))


def needs_restart(changes: Sequence[Change]) -> list[str]:
    """The keys whose new values hold only after a restart."""
    return [change.path for change in changes if change.when == "restart"]


def _in_sections(before: BaseModel, after: BaseModel, path: KeyPath) -> Iterator[Change]:
    for name, field in type(after).model_fields.items():
        quantity = next((mark.name for mark in field.metadata if isinstance(mark, Quantity)), "")
        yield from _in_values(getattr(before, name), getattr(after, name), (*path, name), quantity)


def _in_values(before: Any, after: Any, path: KeyPath, quantity: str = "") -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, BaseModel) and isinstance(after, BaseModel):
        yield from _in_sections(before, after, path)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _in_mappings(before, after, path)
    elif _is_named(before) and _is_named(after):
        yield from _in_mappings(
            {each.name: each for each in before}, {each.name: each for each in after}, path
        )
    else:
        yield Change(
            _write_path(path),
            _write(before, quantity),
            _write(after, quantity),
            when_it_holds(path),
        )


def _in_mappings(
    before: Mapping[str, Any], after: Mapping[str, Any], path: KeyPath
) -> Iterator[Change]:
    for name in before:
        if name not in after:
            yield Change(_write_path((*path, name)), "", None, when_it_holds((*path, name)))
    for name, value in after.items():
        if name in before:
            yield from _in_values(before[name], value, (*path, name))
        else:
            said = "" if isinstance(value, BaseModel) else _write(value)
            yield Change(_write_path((*path, name)), None, said, when_it_holds((*path, name)))
    if list(before) != list(after) and before.keys() == after.keys():
        yield Change(
            _write_path(path), _write(list(before)), _write(list(after)), when_it_holds(path)
        )


def _is_named(value: Any) -> bool:
    """Whether it is a list of sections that have names, nodes for instance."""
    return isinstance(value, tuple) and all(
        isinstance(each, BaseModel) and getattr(each, "name", None) for each in value
    )


def when_it_holds(path: KeyPath) -> When:
    """From when on another value at this path holds."""
    for pattern, when in _WHEN:
        head = path[: len(pattern)]
        if len(head) == len(pattern) and all(
            asked in (_ANY, part) for asked, part in zip(pattern, head, strict=True)
        ):
            return when
    return "now"


def _write_path(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)


def _write(value: Any, quantity: str = "") -> str:
    """A value as it would be written, a secret as asterisks."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_write(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write, value)) + "]"
    if quantity and value is not None:
        return format_duration(value) if quantity == "duration" else format_size(value)
    words = {None: "none", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    # A secret's repr does not show it.
    return repr(value) if isinstance(value, Secret) else str(value)
