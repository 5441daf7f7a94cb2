"""What does a database's own catalogue say of its functions and relations? Questions to a node.

Asked by whoever routes statements, and by whoever looks for what they leave in a session;
`proxy.sql` and `proxy.session` make of the answers what is judged by.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from proxy.cluster.dialling import ProbeLogin, dial
from proxy.cluster.view import NodeAddress
from proxy.session.suspects import (
    CODE_QUESTION,
    EXPRESSIONS_QUESTION,
    USES_QUESTION,
    CodeRow,
    ExpressionRow,
    UseRow,
)
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
    """What functions do to data, and what relations are; equal ones make equal catalogues."""

    QUESTIONS: ClassVar = (FUNCTIONS_QUESTION, RELATIONS_QUESTION)

    functions: frozenset[FunctionRow]
    relations: frozenset[RelationRow]

    @classmethod
    def read(cls, functions: Iterable[Any], relations: Iterable[Any]) -> Self:
        """Take the answers to the questions."""
        return cls(
            frozenset(FunctionRow(*row) for row in functions),
            frozenset(RelationRow(*row) for row in relations),
        )

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
    """By what functions and expressions are suspected to leave something in a session."""

    QUESTIONS: ClassVar = (CODE_QUESTION, USES_QUESTION, EXPRESSIONS_QUESTION)

    code: frozenset[CodeRow]
    uses: frozenset[UseRow]
    expressions: frozenset[ExpressionRow]

    @classmethod
    def read(cls, code: Iterable[Any], uses: Iterable[Any], expressions: Iterable[Any]) -> Self:
        """Take the answers to the questions."""
        return cls(
            frozenset(CodeRow(*row) for row in code),
            frozenset(UseRow(*row) for row in uses),
            frozenset(ExpressionRow(*row) for row in expressions),
        )


Rows = CatalogueRows | SuspectRows


async def ask(
    address: NodeAddress,
    login: ProbeLogin,
    timeout_s: float,
    kinds: Collection[type[CatalogueRows] | type[SuspectRows]],
) -> list[Rows]:
    """Ask the login's database on this node, over one connection.

    Result: rows of each kind, in their order. Raises what asyncpg and the socket raise.
    """
    async with asyncio.timeout(timeout_s):
        connection = await dial(address, login, {"application_name": "pgweir catalogue"})
        try:
            return [
                kind.read(*[await connection.fetch(question) for question in kind.QUESTIONS])
                for kind in kinds
            ]
        finally:
            connection.terminate()
