"""Databases as clients name them, and the routes that send statements elsewhere."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.limits import DatabaseOverrides
from proxy.config.quantities import Duration
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
        description="Send statements that only read to replicas, and all others to the primary. "
        "With `pool_mode: session` it is without effect: a client keeps one server connection.",
    )
    read_transactions: Literal["off", "first_statement"] = Field(
        default="off",
        description="With `first_statement` and `read_write_split`, a transaction that does not "
        "say whether it writes starts on a replica when its first statement only reads. What does "
        "not only read is refused later in it, with 25006 and a hint.",
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
    application_name: str | None = Field(
        default=None, description="The client's `application_name`, as it is now."
    )
    address: str | None = Field(
        default=None,
        description="The client's address, or a network such as `10.0.0.0/8`; `unix` is a socket "
        "in a folder.",
    )
    query: str | None = Field(
        default=None,
        description="A regular expression, as Python's `re` has them, found in the statement as it "
        "was sent or in its key (see `pgweir check --sql`), in any case.",
    )
    table: str | None = Field(
        default=None,
        description="A table the statement reads or writes, with its schema or without.",
    )
    fingerprint: str | None = Field(
        default=None,
        min_length=1,
        description="The statement's fingerprint, as `pgweir check --sql` prints it.",
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

    @field_validator("address")
    @classmethod
    def _is_network(cls, address: str | None) -> str | None:
        if address in (None, "unix"):
            return address
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise PydanticCustomError(
                "refused", "neither an address nor a network; write one such as 10.0.0.0/8, or unix"
            ) from None
        return address

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
        return not (self.query is None and self.table is None and self.fingerprint is None)

    @property
    def is_by_login(self) -> bool:
        """Whether database and user are all it looks at, which never change."""
        return not self.is_by_statement and self.application_name is None and self.address is None

    def matches_session(self, database: str, user: str) -> bool:
        """Whether every statement of this user in this database matches, whatever it says."""
        return self.is_by_login and self.may_match(database, user)

    def may_match(self, database: str, user: str) -> bool:
        """Whether some statement of this user in this database may match."""
        return self.database in (None, database) and self.user in (None, user)


class Route(Section):
    """One rule that says where statements go; the first that matches wins."""

    name: str | None = Field(
        default=None, min_length=1, description="What it is called in errors, logs and SHOW ROUTES."
    )
    match: Match = Field(description="What a statement must be for the rule to hold.")
    to: str | None = Field(
        default=None, min_length=1, description="`primary`, `replica`, or a role that a node has."
    )
    reject: bool = Field(
        default=False, description="Refuse the statement, with SQLSTATE 42501 and the rule's name."
    )
    timeout: Duration = Field(
        default=0.0, description="Cancel the statement when it takes longer; 0 is never."
    )
    log: bool = Field(default=False, description="Write a line to the log each time it matches.")

    @model_validator(mode="after")
    def _does_something(self) -> "Route":
        if self.to is None and not (self.reject or self.timeout or self.log):
            raise PydanticCustomError(
                "refused", "does nothing; write to: primary, replica or a role, or reject: true"
            )
        if self.to is not None and self.reject:
            raise PydanticCustomError("refused", "both sends and rejects; keep to or reject")
        return self

    @property
    def acts_on_statements(self) -> bool:
        """Whether each statement has to be looked at as it comes, wherever it runs."""
        return self.reject or self.timeout > 0 or self.log
