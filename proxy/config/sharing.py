"""Redis, where several proxies tell each other what was written under consistency keys."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from proxy.config.quantities import PositiveDuration
from proxy.config.secret import Secret
from proxy.config.section import FilePath, Section


def _refuse_other_url(url: Secret) -> Secret:
    """Raises PydanticCustomError, whose text does not show the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            is_known = bool(parts.path)
        else:
            is_known = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
            is_known = is_known and parts.port != 0
    except ValueError:
        is_known = False
    if not is_known:
        raise PydanticCustomError(
            "refused", "no URL of a Redis; write redis://HOST:PORT/0, rediss://… or unix://PATH"
        )
    return url


class Redis(Section):
    """A Redis, by which consistency keys hold across proxies; needs the extra `redis`."""

    url: Annotated[Secret, AfterValidator(_refuse_other_url)] = Field(
        description="Where it is: `redis://HOST:PORT/0`, `rediss://…` with TLS, or `unix://PATH`. "
        "Never shown, as it may hold a user and a password."
    )
    password: Secret | None = Field(default=None, description="In place of a password in `url`.")
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign its certificate; the system's when absent.",
    )
    prefix: str = Field(
        default="pgweir",
        pattern=r"^[^{}]+$",
        description="What all keys of pgweir begin with; the same for all proxies that are to "
        "know of each other.",
    )
    ttl: PositiveDuration = Field(
        default=3600.0,
        description="Writes are forgotten after so long; more than any replica may lag.",
    )
