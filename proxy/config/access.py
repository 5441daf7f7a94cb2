"""Who may come in: client users, and who of them may use the console."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from proxy.config.limits import Overrides
from proxy.config.secret import ClientSecret
from proxy.config.section import FilePath, Section


class User(Overrides):
    """One user that clients may log in as; any limit set here holds for this user."""

    password: ClientSecret | None = Field(
        default=None,
        description="A plain password, an `md5…` hash or a `SCRAM-SHA-256$…` verifier.",
    )
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )


class Auth(Section):
    """How clients prove who they are."""

    method: Literal["trust", "password", "md5", "scram-sha-256", "cert", "hba"] = Field(
        default="scram-sha-256",
        description="What a client is asked for. `cert` and `hba` are not available in this "
        "version.",
    )
    users: Mapping[str, User] = Field(
        default_factory=dict, description="The users clients may log in as, by name."
    )
    userlist_file: FilePath | None = Field(
        default=None,
        description="Users in the format of PgBouncer's `userlist.txt`; they are added to "
        "`users`, whose own passwords win.",
    )
    query: str | None = Field(
        default=None,
        description="A query that finds a user's password. Not available in this version.",
    )
    admins: tuple[str, ...] = Field(
        default=(), description="Users who may use the admin console in full."
    )
    stats: tuple[str, ...] = Field(
        default=(), description="Users who may only `SHOW` in the admin console."
    )
