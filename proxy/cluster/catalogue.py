"""What does a database's own catalogue say of its functions and relations? Two questions to a node.

Asked by whoever routes statements; `proxy.sql` makes of the answers what it judges by.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from proxy.cluster.dialling import ProbeLogin, dial
from proxy.cluster.view import NodeAddress
from proxy.session.suspects import CODE_QUESTION, USES_QUESTION, CodeRow, UseRow
from proxy.sql import (
    FUNCTIONS_QUESTION,
    RELATIONS_QUESTION,
    Catalogue,
    FunctionRow,
    RelationRow,
    read_catalogue,
)


@dataclass(frozen=True, slots=True)
class CatalogueRows:
    """The two answers; equal ones make equal catalogues."""

    functions: frozenset[FunctionRow]
    relations: frozenset[RelationRow]

    def catalogue(
        self, read_only_functions: Collection[str], writing_functions: Collection[str]
    ) -> Catalogue:
        """Make a catalogue of them and of the operator's lists."""
        return read_catalogue(
            self.functions,
            self.relations,
            read_only_functions=frozenset(read_only_functions),
            writing_functions=frozenset(writing_functions),
        )


@dataclass(frozen=True, slots=True)
class SuspectRows:
    """The answers by which functions are suspected; see `proxy.session.suspects`."""

    code: frozenset[CodeRow]
    uses: frozenset[UseRow]


async def ask_suspects(address: NodeAddress, login: ProbeLogin, timeout_s: float) -> SuspectRows:
    """Ask the login's database on this node. Raises what asyncpg and the socket raise."""
    code, uses = await _ask(address, login, timeout_s, CODE_QUESTION, USES_QUESTION)
    return SuspectRows(
        frozenset(CodeRow(*row) for row in code), frozenset(UseRow(*row) for row in uses)
    )


async def ask_catalogue(address: NodeAddress, login: ProbeLogin, timeout_s: float) -> CatalogueRows:
    """Ask the login's database on this node. Raises what asyncpg and the socket raise."""
    questions = FUNCTIONS_QUESTION, RELATIONS_QUESTION
    functions, relations = await _ask(address, login, timeout_s, *questions)
    return CatalogueRows(
        frozenset(FunctionRow(*row) for row in functions),
        frozenset(RelationRow(*row) for row in relations),
    )


async def _ask(
    address: NodeAddress, login: ProbeLogin, timeout_s: float, *questions: str
) -> list[Any]:
    """The rows of each question, over one connection."""
    async with asyncio.timeout(timeout_s):
        connection = await dial(address, login, {"application_name": "pgweir catalogue"})
        try:
            return [await connection.fetch(question) for question in questions]
        finally:
            connection.terminate()
