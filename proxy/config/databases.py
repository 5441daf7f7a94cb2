"""Databases as clients name them, and the routes that send statements elsewhere."""

import re
from collections.abc import Mapping

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.limits import DatabaseOverrides
from proxy.config.section import Section
from proxy.config.topology import ServerLogin


class Database(DatabaseOverrides):
    """One database name that clients may ask for; any limit set here holds for this database."""

    cluster: str = Field(description="The cluster that has it, by its name under `clusters`.")
    dbname: str | None = Field(
        default=None,
        min_length=1,
        description="Its name on the nodes; the name the client asked for when absent.",
    )
    read_write_split: bool = Field(
        default=False,
        description="Send statements that only read to replicas. Without effect in this version.",
    )
    share_unnamed: bool = Field(
        default=False,
        description="Prepare unnamed statements of the same text once per server connection, "
        "which saves PostgreSQL about a third of its work on short statements. What it means for "
        "plans: such a statement is planned like a named one, so after five runs PostgreSQL may "
        "keep a generic plan that does not look at the parameters (`plan_cache_mode` decides), "
        "where an unnamed statement is planned anew each time.",
    )
    server_settings: Mapping[str, str] = Field(
        default_factory=dict,
        description="Settings that server connections of this database begin with, such as "
        "`timezone`; what a client asks for wins.",
    )
    connect_query: str | None = Field(
        default=None,
        min_length=1,
        description="A query that each new server connection runs before anybody gets it; what "
        "it fails with is logged.",
    )
    server: ServerLogin | None = Field(
        default=None,
        description="How the proxy logs in for this database, in place of the cluster's "
        "`server`; what is absent here is taken from there.",
    )


class Match(Section):
    """What a route looks at; all that is given must agree."""

    database: str | None = Field(default=None, description="The database the client asked for.")
    user: str | None = Field(default=None, description="The user the client logged in as.")
    query: str | None = Field(
        default=None,
        description="A regular expression found in the statement. Matches nothing in this version.",
    )
    table: str | None = Field(
        default=None,
        description="A table the statement reads or writes. Matches nothing in this version.",
    )

    @field_validator("query")
    @classmethod
    def _compiles(cls, query: str | None) -> str | None:
        try:
            re.compile(query or "")
        except re.error as error:
            raise PydanticCustomError(
                "refused",
                "not a regular expression ({reason}); write one that Python's re accepts",
                {"reason": str(error)},
            ) from error
        return query

    @model_validator(mode="after")
    def _says_something(self) -> "Match":
        if not self.model_fields_set:
            raise PydanticCustomError(
                "refused", "matches nothing; give it a database, a user or both"
            )
        return self

    @property
    def is_by_statement(self) -> bool:
        """Whether the statement has to be looked at, not only who sent it."""
        return self.query is not None or self.table is not None

    def matches_session(self, database: str, user: str) -> bool:
        """Whether every statement of this user in this database matches, whatever it says."""
        return (
            not self.is_by_statement
            and self.database in (None, database)
            and self.user in (None, user)
        )


class Route(Section):
    """One rule that says where statements go; the first that matches wins."""

    match: Match = Field(description="What a statement must be to go there.")
    to: str = Field(min_length=1, description="`primary`, `replica`, or a role that a node has.")
