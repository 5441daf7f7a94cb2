"""What is written down of who did what, and where traces of statements go."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from proxy.config.quantities import Size
from proxy.config.secret import Secret
from proxy.config.section import Count, FilePath, Section

AuditClass = Literal[
    "read", "write", "ddl", "transaction", "session", "unknown", "login", "disconnect", "admin"
]
_NOT_STATEMENTS: frozenset[AuditClass] = frozenset({"login", "disconnect", "admin"})


class AuditRule(Section):
    """One rule; of what happens, the first that matches says whether it is written down."""

    database: str | None = Field(default=None, description="The database the client asked for.")
    user: str | None = Field(default=None, description="The user the client logged in as.")
    classes: tuple[AuditClass, ...] = Field(
        default=(),
        description="What the statement does: `read`; `write` rows; `ddl` changes tables, rights "
        "and the like; `transaction` begins or ends one; `session` changes settings and what else "
        "lives in a session; `unknown` is what the grammar does not know. What is no statement: "
        "`login`, accepted or refused; `disconnect`; `admin` is a command at the console. Any but "
        "`disconnect` when empty.",
    )
    table: str | None = Field(
        default=None,
        min_length=1,
        description="A table it reads or writes, as the statement writes it: `orders` or "
        "`public.orders`.",
    )
    log: bool = Field(default=True, description="Whether what matches is written down.")

    def may_match(self, database: str, user: str) -> bool:
        """Whether something that this user does in this database could match."""
        return self.database in (None, database) and self.user in (None, user)

    @property
    def is_about_statements(self) -> bool:
        """Whether a statement could match."""
        return not self.classes or not _NOT_STATEMENTS.issuperset(self.classes)


class Audit(Section):
    """A file with one JSON object for each statement, login and command that the rules choose."""

    file: FilePath = Field(description="The file lines are added to; its folder must exist.")
    max_bytes: Size = Field(
        default=100 << 20,
        description="A file that has become longer is renamed to `.1`, that to `.2` and so on; 0 "
        "leaves that to others.",
    )
    keep: Count = Field(default=5, description="Renamed files that are kept.")
    literals: bool = Field(
        default=False,
        description="Write statements with the constants that clients wrote, rather than with "
        "placeholders.",
    )
    rules: tuple[AuditRule, ...] = Field(
        default=(AuditRule(),),
        description="What is written; all but `disconnect` by default. What none matches is not.",
    )

    def may_log_statements(self, database: str, user: str) -> bool:
        """Whether a statement of this user in this database could be written down."""
        return any(
            rule.log and rule.is_about_statements and rule.may_match(database, user)
            for rule in self.rules
        )


class Traces(Section):
    """Spans of statements that belong to a recorded trace; needs the extra `otel`."""

    endpoint: str = Field(
        pattern=r"^https?://[^\s]+$",
        description="Where a collector takes OTLP over HTTP, such as "
        "`http://127.0.0.1:4318/v1/traces`.",
    )
    headers: Mapping[str, Secret] = Field(
        default_factory=dict, description="Headers to send with it, for a collector that asks."
    )
