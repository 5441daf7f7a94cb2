"""The page docs/configuration.md, written from the models: `python -m proxy.config.reference`.

Every key with its type, default and meaning stands there because it stands in a model; what is
written here is only what no single key says.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config.limits import Overrides
from proxy.config.model import Config
from proxy.config.quantities import Quantity, format_duration, format_size
from proxy.config.secret import Secret
from proxy.config.shape import as_section, items_of, without_none

_OPENING = """\
# Configuration

<!-- Written by `python -m proxy.config.reference`; change the descriptions in proxy/config. -->

pgweir reads one YAML file, `pgweir run -c FILE`, or [PgBouncer's](from-pgbouncer.md). `pgweir check
-c FILE` says what is wrong with a file, as `FILE:LINE: key.path: what is wrong and what would be
right`, all at once. `pgweir schema` prints a JSON Schema for editors. Annotated examples stand in
`config/`.

- **Durations** are `250ms`, `5s`, `10m`, `1h`, `2d`; a bare number is seconds, as in PgBouncer.
- **Sizes** are `512B`, `64KiB`, `10MiB`, `1GiB`; a bare number is bytes.
- **`${NAME}`** is replaced from the environment, `${NAME:-default}` has a default for when the
  variable is unset or empty, `$$` is one dollar sign. References work in values, quoted or not, and
  not in keys; what a variable holds is always one value and never more YAML.
- **Secrets** may be read from files: `password_file` in place of `password`. The line end at the
  end of the file does not count. They and `userlist_file` are read again at each reload and
  within two seconds of a change.
- **Paths** that are relative start at the folder of the configuration file.
- **Unknown keys** are errors, and so is a key given twice. A key without a value has its default.

## Without a file

`pgweir run` takes the primary from `DATABASE_URL` (`postgresql://user:password@host:5432/database`)
and replicas from `DATABASE_REPLICA_URLS`, separated by commas. The URL's user and password are what
clients log in with (scram-sha-256) and what the proxy logs in to the nodes with. Any database name
is passed through. `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of the URL hold between the
proxy and the nodes; its other parameters are left to the client. A URL without a password lets
clients in without one, and is refused unless the proxy listens on this machine alone.

The flags `--listen HOST:PORT`, `--http HOST:PORT` and `--pool-size N` work with and without a file,
and win over it. There is no HTTP endpoint unless the file or the flag asks for one.

## Which value holds

A limit set for a user holds over one set for a database, and that over `limits`. Of the routes, the
first that matches wins.
"""


def write_reference() -> str:
    """The whole page, as Markdown."""
    return _OPENING + "".join(_section_pages(Config, "")).rstrip() + "\n"


def _section_pages(section: type[BaseModel], path: str) -> Iterator[str]:
    """The page of a section and of those below it, in the order of the keys."""
    yield f"\n## {f'`{path}`' if path else 'The file'}\n"
    if path:
        yield f"\n{(section.__doc__ or '').strip().splitlines()[0]}\n"
    yield "\n| key | type | default | meaning |\n|---|---|---|---|\n"
    for name, field in _own_fields(section):
        default = "required" if name in _required(section) else _default(field)
        cells = (f"`{name}`", write_type(field), default, field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    if issubclass(section, Overrides):
        yield "| any key of `limits` | as there | what holds there | In place of that limit. |\n"
    for name, field in _own_fields(section):
        for below, below_path in _sections_of(field.annotation, f"{path}.{name}".lstrip(".")):
            yield from _section_pages(below, below_path)


def _own_fields(section: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The fields of a section without those every holder of limits has."""
    inherited = Overrides.model_fields if issubclass(section, Overrides) else {}
    return [(name, each) for name, each in section.model_fields.items() if name not in inherited]


def _required(section: type[BaseModel]) -> set[str]:
    """The keys that must be there, as the JSON Schema of the section has them."""
    return set(section.model_json_schema().get("required", ()))


def _sections_of(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The section a field holds, with its path; `NAME` and `[]` stand for what varies."""
    annotation = without_none(annotation)
    section = as_section(annotation)
    if section is not None:
        yield section, path
    elif (items := items_of(annotation)) is not None:
        yield from _sections_of(
            items, path + ("[]" if get_origin(annotation) is tuple else ".NAME")
        )


def write_type(field: FieldInfo) -> str:
    """The type of a field in words."""
    for mark in field.metadata:
        if isinstance(mark, Quantity):
            return mark.name
    return _type_words(field.annotation)


_PLAIN_TYPES = {bool: "true or false", int: "number", str: "text", Path: "path", Secret: "secret"}


def _type_words(annotation: Any) -> str:
    annotation = without_none(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        names = [mark.name for mark in arguments[1:] if isinstance(mark, Quantity)]
        return names[0] if names else _type_words(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin is Mapping:
        return f"names, each with {_type_words(arguments[1])}"
    if origin is tuple:
        return f"list of {_type_words(arguments[0])}"
    if as_section(annotation) is not None:
        return "keys"
    if origin in (Union, UnionType) or annotation not in _PLAIN_TYPES:
        raise TypeError(f"no words for {annotation}")
    return _PLAIN_TYPES[annotation]


def _default(field: FieldInfo) -> str:
    """The default as it would be written in the file."""
    if as_section(field.annotation) is not None or field.default_factory is dict:
        return ""
    if field.default in (None, "", ()):
        return ""
    kind = write_type(field)
    if kind == "duration":
        return f"`{format_duration(field.default)}`"
    if kind == "size":
        return f"`{format_size(field.default)}`"
    return f"`{_as_written(field.default)}`"


def _as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_written, value))}]"
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_defaults=True).items()
        return f"{{{', '.join(f'{key}: {_as_written(each)}' for key, each in given)}}}"
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(write_reference())
