"""What the judgement must be told of functions and relations, since no text says it."""

from collections.abc import Collection
from dataclasses import dataclass

from proxy.sql.volatility import Volatility


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is known of functions and relations. The operator's two lists of functions win.

    In the collections, a name without a schema stands for that name in every schema.
    primary_relations: what a replica refuses or has otherwise: views in whose definition a function
    is volatile, sequences, unlogged tables.
    """

    volatility: Volatility
    read_only_functions: Collection[str] = frozenset()
    writing_functions: Collection[str] = frozenset()
    primary_relations: Collection[str] = frozenset()
