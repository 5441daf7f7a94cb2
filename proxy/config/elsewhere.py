"""Who says whether a client is who it claims to be, where that is not the proxy.

Each section is also what a rule of an HBA file may say behind its method, `ldap ldapserver=…`: keys
are PostgreSQL's where it has them, and what a rule does not say holds as it stands here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.quantities import Duration, PositiveDuration
from proxy.config.secret import Secret
from proxy.config.section import FilePath, Port, Section

S = TypeVar("S", bound=Section)


def is_private_url(url: str) -> bool:
    """Whether what is fetched there cannot be changed on the way: by TLS, or on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")


def _refuse_open_url(url: str) -> str:
    if not is_private_url(url):
        raise PydanticCustomError("refused", "not a URL that can be trusted; write https://…")
    return url


def _split(given: Any) -> Any:
    """A rule of an HBA file has but text: words, separated by spaces."""
    return tuple(given.split()) if isinstance(given, str) else given


def _refuse_paths(service: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", service):
        raise PydanticCustomError("refused", "not a name of a service; write that of its file")
    return service


def _laid_over(section: S, options: Mapping[str, str], keeps: Iterable[str]) -> S:
    """The options of a rule, and of a section what is to be kept beside them."""
    kept = section.model_fields_set.intersection(keeps)
    own = {key: each for key, each in options.items() if key in type(section).model_fields}
    if not own:
        return section
    return type(section).model_validate({**{key: getattr(section, key) for key in kept}, **own})


PrivateUrl = Annotated[str, AfterValidator(_refuse_open_url)]
"""An https URL, or http on this machine."""

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Oauth(Section):
    """OAUTHBEARER: clients show a token, a JSON Web Token signed by its issuer."""

    issuer: PrivateUrl | None = Field(
        default=None,
        description="The issuer as its tokens name it (`iss`), or the URL of its configuration if "
        "that has `/.well-known/` in it; https, and for tests http on this machine. Clients "
        "without a token are sent there.",
    )
    scope: str = Field(
        default="",
        description="Scopes that a token must grant, separated by spaces; clients are told of "
        "them, too.",
    )
    audience: str | None = Field(
        default=None, min_length=1, description="What a token must be for (`aud`): this proxy."
    )
    claim: str = Field(
        default="sub",
        min_length=1,
        description="The claim that names the user; without a map it must be the user that the "
        "client asks for.",
    )
    algorithms: Annotated[tuple[SigningAlgorithm, ...], BeforeValidator(_split)] = Field(
        default=("RS256", "PS256", "ES256", "ES384", "EdDSA"),
        description="How a token may be signed. Always by the issuer's private key, never by a "
        "shared secret.",
    )
    jwks_url: PrivateUrl | None = Field(
        default=None,
        description="Where the issuer publishes its keys; its configuration is asked when absent.",
    )
    jwks_file: FilePath | None = Field(
        default=None, description="A file with the issuer's keys (a JWK Set); nothing is fetched."
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign the issuer's certificate, a PEM file; the system's own "
        "when absent.",
    )
    leeway: Duration = Field(
        default=10.0, description="How far the issuer's clock and this one may differ."
    )
    timeout: PositiveDuration = Field(
        default=5.0, description="How long fetching the keys may take."
    )

    @property
    def lack(self) -> str | None:
        """The key without which no token can be judged, None when all is there."""
        return next((key for key in ("issuer", "audience") if getattr(self, key) is None), None)

    def for_rule(self, options: Mapping[str, str]) -> "Oauth":
        """What holds for a rule of an HBA file. Raises pydantic's ValidationError."""
        # The keys of one issuer must not vouch for another.
        keeps = set(Oauth.model_fields)
        if options.get("issuer", self.issuer) != self.issuer:
            keeps -= {"jwks_url", "jwks_file"}
        return _laid_over(self, options, keeps)


LdapScope = Literal["base", "one", "sub"]


class Ldap(Section):
    """LDAP: a directory says whether the password is right, by letting the proxy bind with it.

    Either the user's name is built from `ldapprefix` and `ldapsuffix`, or the user is searched for
    below `ldapbasedn` and what is found binds.
    """

    ldapserver: str = Field(
        default="", description="Names or addresses of LDAP servers, separated by spaces."
    )
    ldapport: Port | None = Field(
        default=None, description="Their port; 389, or 636 with `ldapscheme: ldaps`, when absent."
    )
    ldapscheme: Literal["ldap", "ldaps"] = Field(
        default="ldap", description="`ldaps` is LDAP over TLS from the first byte."
    )
    ldaptls: bool = Field(
        default=False, description="Begin TLS on a connection in clear (StartTLS), and insist."
    )
    ldapprefix: str = Field(default="", description="Stands before the user's name in the bind.")
    ldapsuffix: str = Field(default="", description="Stands behind it.")
    ldapbasedn: str | None = Field(default=None, description="Search for the user below this.")
    ldapbinddn: str = Field(
        default="", description="Search as this; when absent, as nobody (anonymous bind)."
    )
    ldapbindpasswd: Secret = Field(default=Secret(""), description="The password of `ldapbinddn`.")
    ldapbindpasswd_file: FilePath | None = Field(
        default=None, description="A file that holds it, in place of `ldapbindpasswd`."
    )
    ldapsearchattribute: str | None = Field(
        default=None, min_length=1, description="The attribute that is the user's name; `uid`."
    )
    ldapsearchfilter: str | None = Field(
        default=None,
        min_length=1,
        description="A filter in place of `ldapsearchattribute`; `$username` in it is the name.",
    )
    ldapscope: LdapScope = Field(
        default="sub", description="How deep to search; an `ldapurl` says it in its own way."
    )
    ldapurl: str | None = Field(
        default=None,
        description="Scheme, server, port, base, attribute, scope and filter in one, RFC 4516: "
        "`ldap://host:389/dc=example,dc=org?uid?sub`. What stands in it is not given again.",
    )
    ldapca: FilePath | None = Field(
        default=None,
        description="Authorities that sign the LDAP server's certificate, a PEM file; those of "
        "the system's `ldap.conf` when absent.",
    )
    timeout: PositiveDuration = Field(
        default=5.0, description="How long a login may take to be judged."
    )

    @model_validator(mode="before")
    @classmethod
    def _spread_url(cls, given: Any) -> Any:
        """Put what an `ldapurl` says in the place of the keys it stands for."""
        if not isinstance(given, dict) or not isinstance(given.get("ldapurl"), str):
            return given
        said = read_ldap_url(given["ldapurl"])
        for key in said:
            if given.get(key) is not None:
                raise PydanticCustomError("refused", f"ldapurl together with {key}; keep one")
        return {**{key: each for key, each in given.items() if key != "ldapurl"}, **said}

    @model_validator(mode="after")
    def _check_way(self) -> "Ldap":
        searches = (self.ldapbinddn, self.ldapsearchattribute, self.ldapsearchfilter)
        if self.ldapbasedn is None and any(searches):
            raise PydanticCustomError("refused", "a search without ldapbasedn; say where to begin")
        if self.ldapbasedn is not None and (self.ldapprefix or self.ldapsuffix):
            raise PydanticCustomError(
                "refused", "both a search and ldapprefix or ldapsuffix; keep one of the two"
            )
        if self.ldapsearchattribute is not None and self.ldapsearchfilter is not None:
            raise PydanticCustomError(
                "refused", "both ldapsearchattribute and ldapsearchfilter; keep one of the two"
            )
        if self.ldaptls and self.ldapscheme == "ldaps":
            raise PydanticCustomError("refused", "both ldaptls and ldaps; keep one of the two")
        return self

    @property
    def lack(self) -> str | None:
        """What is missing so that a directory can judge, None when all is there."""
        if not self.servers:
            return "ldapserver, or an ldapurl"
        if self.ldapbasedn is None and not (self.ldapprefix or self.ldapsuffix):
            return "ldapbasedn, or ldapprefix and ldapsuffix"
        return None

    def for_rule(self, options: Mapping[str, str]) -> "Ldap":
        """What holds for a rule of an HBA file: one that says anything of LDAP says all of it.

        Raises pydantic's ValidationError.
        """
        return _laid_over(self, options, ("ldapscope", "ldapca", "timeout"))

    @property
    def servers(self) -> tuple[str, ...]:
        """Their URLs, in the order to be tried."""
        port = self.ldapport or (636 if self.ldapscheme == "ldaps" else 389)
        hosts = (f"[{host}]" if ":" in host else host for host in self.ldapserver.split())
        return tuple(f"{self.ldapscheme}://{host}:{port}" for host in hosts)


def read_ldap_url(url: str) -> dict[str, Any]:
    """The keys that an LDAP URL stands for. Source: RFC 4516; PostgreSQL's `ldapurl`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise PydanticCustomError("refused", "ldapurl is no URL") from None
    if parts.scheme not in ("ldap", "ldaps") or not host:
        raise PydanticCustomError("refused", "ldapurl must be ldap://HOST… or ldaps://HOST…")
    if parts.username is not None or parts.fragment:
        raise PydanticCustomError("refused", "ldapurl holds more than an LDAP URL may")
    fields = [unquote(each) for each in (parts.path.lstrip("/"), *parts.query.split("?"))]
    base, attribute, scope, search = (fields + [""] * 4)[:4]
    if len(fields) > 4 and any(fields[4:]):
        raise PydanticCustomError("refused", "extensions in ldapurl are not supported")
    said: dict[str, Any] = {"ldapscheme": parts.scheme, "ldapserver": host}
    # PostgreSQL's default in a URL is the base itself, as in the RFC.
    said |= {"ldapport": port} if port is not None else {}
    said |= {"ldapbasedn": base, "ldapscope": scope or "base"} if base else {}
    said |= {"ldapsearchattribute": attribute} if attribute else {}
    said |= {"ldapsearchfilter": search} if search else {}
    return said


class Pam(Section):
    """PAM: the system's own way to check a password, by a service in `/etc/pam.d`."""

    pamservice: Annotated[str, AfterValidator(_refuse_paths)] = Field(
        default="pgweir", description="The service: a file in `/etc/pam.d`."
    )
    timeout: PositiveDuration = Field(
        default=10.0, description="How long a login may take to be judged."
    )

    def for_rule(self, options: Mapping[str, str]) -> "Pam":
        """What holds for a rule of an HBA file. Raises pydantic's ValidationError."""
        return _laid_over(self, options, Pam.model_fields)
