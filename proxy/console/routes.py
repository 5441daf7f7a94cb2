"""SHOW ROUTES and ROUTED: the rules that send statements somewhere, and what was sent where."""

from collections.abc import Iterator
from typing import Any

from proxy.config import Section
from proxy.console.joining import summed
from proxy.console.scene import Scene
from proxy.console.table import INT4, INT8, Row, columns

ROUTE_COLUMNS = columns({"position": INT4}, "position", "name", "match", "to", "settings")
ROUTED_COLUMNS = columns({"requests": INT8}, "database", "target", "reason", "requests")


def show_routes(scene: Scene) -> Iterator[Row]:
    """SHOW ROUTES, in the order in which they are tried. settings: what else the rule says."""
    for position, route in enumerate(scene.config().routes, 1):
        settings = {name: getattr(route, name) for name in sorted(route.model_fields_set)}
        match, to, name = (settings.pop(key, None) for key in ("match", "to", "name"))
        yield [
            position,
            name,
            _said(match) if isinstance(match, Section) else "",
            to,
            ", ".join(f"{key}={_value(value)}" for key, value in settings.items()),
        ]


join_routed = summed(ROUTED_COLUMNS, by=("database", "target", "reason"), add=("requests",))


def show_routed(scene: Scene) -> Iterator[Row]:
    """SHOW ROUTED: requests by where they went and why, since the process began."""
    for (database, target, reason), requests in sorted(scene.reservoir.routed.items()):
        yield [database, target, reason, requests]


def _said(section: Section) -> str:
    given = sorted(section.model_fields_set)
    return ", ".join(f"{name}={_value(getattr(section, name))}" for name in given)


def _value(value: Any) -> str:
    return f"{{{_said(value)}}}" if isinstance(value, Section) else str(value)
