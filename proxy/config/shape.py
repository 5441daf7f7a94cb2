"""What may stand where: the models seen as a tree of keys.

Used to name the keys known at a place, and to write the reference.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from proxy.config.section import KeyPath


def without_none(annotation: Any) -> Any:
    """`X` for `X | None`, and every other annotation as it is."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return annotation


def items_of(annotation: Any) -> Any:
    """What a mapping or a list of this type holds, or None when it is neither."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Mapping:
        return arguments[1]
    if origin is tuple:
        return arguments[0]
    return None


def as_section(annotation: Any) -> type[BaseModel] | None:
    """The section this annotation names, or None when it is something else."""
    annotation = without_none(annotation)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def section_at(root: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The section that stands at a path below root, or None when no section stands there."""
    here: Any = root
    for part in path:
        section = as_section(here)
        if section is not None:
            field = section.model_fields.get(str(part))
            here = None if field is None else field.annotation
        else:
            here = items_of(without_none(here))
        if here is None:
            return None
    return as_section(here)
