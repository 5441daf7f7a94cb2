"""What would this statement do?

A text becomes a *key* (`lexer`: comments gone, constants replaced), the key a tree (`grammar`),
the tree *facts* (`facts`, `reading`), and the facts a *verdict* (`verdict`): whether it only reads,
with the reasons if it does not. `Classifier` remembers verdicts by their keys. Pure: nothing here
knows nodes, sessions or sockets; what the catalogue knows of functions and views is handed in.
"""

from proxy.sql.catalogue import Catalogue
from proxy.sql.classifier import Classifier
from proxy.sql.facts import Call, Effect, Facts, Name, Touch, Transaction
from proxy.sql.grammar import GrammarError, Tree, parse
from proxy.sql.lexer import Lexed, lex
from proxy.sql.reading import read_facts
from proxy.sql.schema import (
    FUNCTIONS_QUESTION,
    RELATIONS_QUESTION,
    FunctionRow,
    RelationRow,
    read_catalogue,
)
from proxy.sql.verdict import Verdict, unreadable
from proxy.sql.volatility import Volatility, builtin_volatility

__all__ = [
    "FUNCTIONS_QUESTION",
    "RELATIONS_QUESTION",
    "Call",
    "Catalogue",
    "Classifier",
    "Effect",
    "Facts",
    "FunctionRow",
    "GrammarError",
    "Lexed",
    "Name",
    "RelationRow",
    "Touch",
    "Transaction",
    "Tree",
    "Verdict",
    "Volatility",
    "builtin_volatility",
    "lex",
    "parse",
    "read_catalogue",
    "read_facts",
    "unreadable",
]
