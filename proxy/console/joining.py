"""How do the tables of several processes become one? Pure.

The first table is that of the process that is asked; what is not to be added or joined is as it
says.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from proxy.console.table import Column, Row, Value

Join = Callable[[Sequence[Iterable[Any]]], Iterable[Row]]
"""Makes one table of several."""


def own(tables: Sequence[Iterable[Any]]) -> Iterable[Row]:
    """What every process says alike: that of the one that is asked."""
    return tables[0]


def one_after_another(tables: Sequence[Iterable[Any]]) -> Iterable[Row]:
    """All rows of all: each is about something that one process alone has."""
    return chain.from_iterable(tables)


def summed(
    shown: Sequence[Column],
    *,
    by: Collection[str],
    add: Collection[str],
    greatest: Sequence[Collection[str]] = (),
) -> Join:
    """Rows that are about the same become one.

    by: columns that say what a row is about. add: columns whose sum is shown. greatest: columns
    that are one figure in several parts, the most significant first, whose greatest is shown. Of
    all others the first row has the say.
    """
    names = [column.name for column in shown]
    keys = [names.index(name) for name in by]
    sums = [names.index(name) for name in add]
    groups = [[names.index(name) for name in group] for group in greatest]

    def join(tables: Sequence[Iterable[Any]]) -> Iterator[Row]:
        rows: dict[tuple[Value, ...], list[Value]] = {}
        for row in chain.from_iterable(tables):
            key = tuple(row[at] for at in keys)
            known = rows.get(key)
            if known is None:
                rows[key] = list(row)
                continue
            for at in sums:
                known[at] = _plus(known[at], row[at])
            for group in groups:
                if [known[at] for at in group] < [row[at] for at in group]:
                    for at in group:
                        known[at] = row[at]
        yield from rows.values()

    return join


def _plus(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return one + other
