"""What does a database's own catalogue say of its functions and relations? Questions to a node.

Asked by whoever routes statements, and by whoever looks for what they leave in a session;
`proxy.sql` and `proxy.session` make of the answers what is judged by.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import asyncpg
from pydantic import TypeAdapter, ValidationError

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

_R = TypeVar("_R")


class OddAnswerError(asyncpg.InterfaceError):  # type: ignore[misc]  # asyncpg has no types
    """What a node answered is no answer to what it was asked."""


# What asyncpg raises for a value that is not what its column says it is; the last where it asks for
# a column's type, and for the types of that answer, without end.
_ODD_VALUES = (ValueError, TypeError, LookupError, BufferError, AssertionError, RecursionError)


@dataclass(frozen=True, slots=True)
class CatalogueRows:
    """What functions do to data, and what relations are; equal ones make equal catalogues."""

    QUESTIONS: ClassVar = (FUNCTIONS_QUESTION, RELATIONS_QUESTION)

    functions: frozenset[FunctionRow]
    relations: frozenset[RelationRow]

    @classmethod
    def read(cls, functions: Iterable[Any], relations: Iterable[Any]) -> Self:
        """Take the answers to the questions. Raises OddAnswerError."""
        return cls(
            _read_rows(FunctionRow, functions),
            _read_rows(RelationRow, relations),
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
        """Take the answers to the questions. Raises OddAnswerError."""
        return cls(
            _read_rows(CodeRow, code),
            _read_rows(UseRow, uses),
            _read_rows(ExpressionRow, expressions),
        )


Rows = CatalogueRows | SuspectRows


def _read_rows(kind: type[_R], rows: Iterable[Any]) -> frozenset[_R]:
    """Take the rows of one answer. Raises OddAnswerError when they are not of this kind.

    A server is a stranger, and one that drops a function meanwhile has no text for it.
    """
    try:
        return frozenset(
            TypeAdapter(list[kind]).validate_python([tuple(row) for row in rows], strict=True)  # type: ignore[valid-type]
        )
    except ValidationError as odd:
        first = odd.errors(include_input=False)[0]
        place = ", column ".join(map(str, first["loc"]))
        raise OddAnswerError(
            f"the node answered what was not asked: row {place}: {first['msg']}"
        ) from None


async def ask(
    address: NodeAddress,
    login: ProbeLogin,
    timeout_s: float,
    kinds: Collection[type[CatalogueRows] | type[SuspectRows]],
) -> list[Rows]:
    """Ask the login's database on this node, over one connection.

    Result: rows of each kind, in their order. Raises what asyncpg and the socket raise, and
    OddAnswerError, which is one of asyncpg's.
    """
    async with asyncio.timeout(timeout_s):
        connection = await dial(address, login, {"application_name": "pgweir catalogue"})
        try:
            return [
                kind.read(*[await connection.fetch(question) for question in kind.QUESTIONS])
                for kind in kinds
            ]
        except _ODD_VALUES as odd:
            raise OddAnswerError(f"the node's answer cannot be read: {odd}") from odd
        finally:
            connection.terminate()
