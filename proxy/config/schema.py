"""The JSON Schema of a configuration file, for editors and for whoever generates one."""

from typing import Any

from proxy.config.model import Config

# What may stand wherever a number or a word of a list may: it is expanded before it is read.
_REFERENCE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


def json_schema() -> dict[str, Any]:
    """The schema, draft 2020-12. `${NAME}` is allowed for every value, not only for text."""
    schema = _with_references(Config.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "pgweir configuration",
    }


def _with_references(schema: Any) -> Any:
    """The schema with `${NAME}` as an alternative to each number, truth value and fixed word."""
    if isinstance(schema, list):
        return [_with_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "default" in schema:
        # A default is a value, not a schema to look into.
        below = {key: each for key, each in schema.items() if key != "default"}
        return {**_with_references(below), "default": schema["default"]}
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        about = {key: schema[key] for key in ("title", "description") if key in schema}
        exact = {key: each for key, each in schema.items() if key not in about}
        return {**about, "anyOf": [exact, _REFERENCE]}
    return {key: _with_references(each) for key, each in schema.items()}
