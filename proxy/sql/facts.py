"""What a statement says it would do, as PostgreSQL's grammar reads it. No judgement yet.

Names are as written: an unqualified one has the schema "". Constants are not in here, since the
facts are usually those of a key; `Verdict.needs_text` says when somebody must look at the text.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Name(NamedTuple):
    """A table, view or function; schema: as written, or "". A database in front is dropped."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Call(NamedTuple):
    """A function called; arguments: how many are written, 0 for `count(*)`."""

    function: Name
    arguments: int


class Touch(StrEnum):
    """Kinds of session state, named by what touches them."""

    SETTING = "setting"  # SET, RESET, set_config(); subject: the setting, or "" for all
    LOCAL_SETTING = "setting of the transaction"  # SET LOCAL, SET TRANSACTION, SET CONSTRAINTS
    ROLE = "role"  # SET ROLE, SET SESSION AUTHORIZATION and their resets
    PREPARE = "prepared statement"  # PREPARE; subject: its name
    EXECUTE = "use of a prepared statement"
    DEALLOCATE = "end of a prepared statement"  # subject: "" for all
    DISCARD = "discard"  # subject: all, plans, sequences or temp
    LISTEN = "listen"  # subject: the channel
    UNLISTEN = "unlisten"  # subject: "" for all
    NOTIFY = "notify"  # subject: the channel; "" when a function does it
    LOAD = "loaded library"
    TEMPORARY = "temporary object"  # made, used by its schema, or dropped
    CURSOR = "cursor"  # subject: its name; "" for CLOSE ALL
    HELD_CURSOR = "cursor that is held"
    ADVISORY_LOCK = "session advisory lock"  # taken or released
    SEQUENCE = "place in a sequence"  # what currval() and lastval() tell
    SEED = "seed of random()"
    SNAPSHOT = "exported or imported snapshot"
    TWO_PHASE = "two-phase commit"


class Effect(NamedTuple):
    """One thing of the session that is touched; subject: its name where the grammar shows one."""

    touch: Touch
    subject: str = ""


class Transaction(StrEnum):
    """What is done to the transaction."""

    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"
    PREPARE = "PREPARE TRANSACTION"
    COMMIT_PREPARED = "COMMIT PREPARED"
    ROLLBACK_PREPARED = "ROLLBACK PREPARED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One statement.

    kind: what it is called: SELECT, INSERT, CREATE TABLE, … or the grammar's own word.
    changes: commands that write: INSERT, UPDATE, DELETE, MERGE, SELECT INTO, wherever they stand.
    unknown: constructs of the grammar that this room does not know.
    """

    kind: str
    reads: frozenset[Name] = frozenset()
    writes: frozenset[Name] = frozenset()
    calls: frozenset[Call] = frozenset()
    # Names of settings that current_setting() reads; "" when the text does not say which.
    settings_read: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    row_locks: bool = False
    effects: tuple[Effect, ...] = ()
    transaction: Transaction | None = None
    # BEGIN … READ ONLY or READ WRITE; None when it does not say.
    read_only: bool | None = None
    # BEGIN … ISOLATION LEVEL SERIALIZABLE.
    serializable: bool = False
    chains: bool = False
    # COPY: to or from, and whether what is named is the client rather than a file or a program.
    copies: str | None = None
    copies_with_client: bool = False
    # EXPLAIN, PREPARE, DECLARE, CREATE TABLE AS: the kind of the statement inside.
    inner: str | None = None
    # Whether EXPLAIN executes what it explains.
    executes: bool = True
    is_ddl: bool = False
    unknown: frozenset[str] = frozenset()
