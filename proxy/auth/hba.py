"""HBA rules: who may come in, from where, to what, and how they must prove it.

Lines in, rules out (`read_rules`); the facts of a connection in, the rule that holds for it out
(`Rules.pick`): the first that matches, or none. What proving then takes is the exchanges' business;
the options of a method are passed on to it as they stand.

Where PostgreSQL would take a rule that can never do what it says (a group nobody described, a name
of a host, a method that is not there), reading refuses it with its line.

Source: PostgreSQL documentation, "The pg_hba.conf File"; PgBouncer documentation, "HBA file
format".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from proxy.auth.hba_text import Fault, Field, Line, UnreadableLineError, Word, read_each
from proxy.auth.names import Entry, Groups, Kind, Names, read_databases, read_users
from proxy.auth.places import Address, Interface, Place, Where, read_place, wants_mask
from proxy.errors import ClientError

CertificateCheck = Literal["verify-ca", "verify-full"]

_TYPES = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a connection once it has said what it wants.

    replicates: it is for physical replication, and has no database. peer: None for a Unix socket.
    """

    database: str
    user: str
    replicates: bool
    peer: Address | None
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. file, line: where it stands; None where the configuration has but one method.

    place: None for `local`. options: `name=value` of the method.
    """

    type: str
    databases: Names
    users: Names
    place: Place | None
    method: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: Path | None = None
    line: int = 0

    @property
    def origin(self) -> str:
        """Where it stands, for the log."""
        return "auth.method" if self.file is None else f"{self.file}:{self.line}"

    @property
    def certificate(self) -> CertificateCheck | None:
        """What is asked of a client's certificate besides the method."""
        asked = self.options.get("clientcert")
        if self.method == "cert" or asked == "verify-full":
            return "verify-full"
        return "verify-ca" if asked == "verify-ca" else None

    def is_about(self, facts: Facts) -> bool:
        """Whether it is about connections that come in this way."""
        if facts.peer is None:
            return self.type in ("local", "any")
        if self.type == "hostssl":
            return facts.is_encrypted
        if self.type == "hostnossl":
            return not facts.is_encrypted
        # There is no encryption by GSSAPI here: hostgssenc never holds, hostnogssenc always.
        return self.type in ("host", "hostnogssenc", "any")


class Rules:
    """Rules in the order in which they are tried. Does not change."""

    __slots__ = ("_groups", "_rules")

    def __init__(self, rules: Iterable[Rule], groups: Groups) -> None:
        self._rules = tuple(rules)
        self._groups = groups

    @classmethod
    def always(cls, method: str, options: Mapping[str, str] | None = None) -> "Rules":
        """One method for everybody, whichever way they come."""
        everything = Names((Entry(Kind.ALL), Entry(Kind.REPLICATION)))
        everybody = Names((Entry(Kind.ALL),))
        rule = Rule("any", everything, everybody, Place(Where.ALL), method, options or {})
        return cls((rule,), Groups())

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    @property
    def methods(self) -> frozenset[str]:
        """All methods that some rule asks for."""
        return frozenset(rule.method for rule in self._rules)

    def pick(self, facts: Facts, own: Callable[[], Sequence[Interface]]) -> Rule | None:
        """The first rule that holds for a connection, or None.

        own: gives this machine's addresses; asked where a rule is about them.
        """
        for rule in self._rules:
            if (
                rule.is_about(facts)
                and _is_there(rule.place, facts.peer, own)
                and (
                    rule.databases.has_replication
                    if facts.replicates
                    else rule.databases.has_database(facts.database, facts.user, self._groups)
                )
                and rule.users.has_user(facts.user, self._groups)
            ):
                return rule
        return None


def _is_there(
    place: Place | None, peer: Address | None, own: Callable[[], Sequence[Interface]]
) -> bool:
    if place is None or peer is None:
        return True
    near = own() if place.where in (Where.SAME_HOST, Where.SAME_NET) else ()
    return place.has(peer, near)


class NotAllowedError(ClientError):
    """No rule lets this client in, or one rejects it."""


def refusal(rule: Rule | None, facts: Facts) -> NotAllowedError:
    """What a client is told whom no rule lets in, or whom one rejects; PostgreSQL's words (28000).

    They say what the client asked for and nothing of who exists.
    """
    host = "[local]" if facts.peer is None else str(facts.peer)
    how = "SSL encryption" if facts.is_encrypted else "no encryption"
    if facts.replicates:
        what = f'host "{host}", user "{facts.user}", {how}'
        kind, preposition = "replication connection ", "from "
    else:
        what = f'host "{host}", user "{facts.user}", database "{facts.database}", {how}'
        kind, preposition = "", ""
    if rule is None:
        said = f"no pg_hba.conf entry for {kind}{preposition}{what}"
    else:
        said = f"pg_hba.conf rejects {kind or 'connection '}for {what}"
    return NotAllowedError(
        "28000", said, hint="The rules are those of the proxy (pgweir), in its auth.hba_file."
    )


# --- reading -------------------------------------------------------------------------------------

_METHODS_ELSEWHERE = {
    "gss": "GSSAPI is not spoken here",
    "sspi": "SSPI is Windows'",
    "bsd": "BSD authentication is OpenBSD's",
    "radius": "RADIUS is not spoken here",
    "ident": "ident believes what the client's machine says; only local connections may have it",
}
METHODS = (
    "trust",
    "reject",
    "password",
    "md5",
    "scram-sha-256",
    "cert",
    "peer",
    "ldap",
    "pam",
    "oauth",
)
# Option -> methods that take it; None is any. Whether it needs TLS is in _TLS_OPTIONS.
_OPTIONS: Mapping[str, tuple[str, ...] | None] = {
    "map": ("peer", "cert", "oauth"),
    "clientcert": None,
    "clientname": None,
    "pamservice": ("pam",),
    "pam_use_hostname": ("pam",),
    "ldapurl": ("ldap",),
    "ldaptls": ("ldap",),
    "ldapscheme": ("ldap",),
    "ldapserver": ("ldap",),
    "ldapport": ("ldap",),
    "ldapbinddn": ("ldap",),
    "ldapbindpasswd": ("ldap",),
    "ldapsearchattribute": ("ldap",),
    "ldapsearchfilter": ("ldap",),
    "ldapbasedn": ("ldap",),
    "ldapprefix": ("ldap",),
    "ldapsuffix": ("ldap",),
    "issuer": ("oauth",),
    "scope": ("oauth",),
    "audience": ("oauth",),
    "claim": ("oauth",),
    "algorithms": ("oauth",),
    "validator": ("oauth",),
    "delegate_ident_mapping": ("oauth",),
}
_TLS_OPTIONS = ("clientcert", "clientname")
# Option -> the values it may have; any other option may have any.
_VALUES = {
    "clientcert": ("verify-ca", "verify-full"),
    "clientname": ("CN", "DN"),
    "ldapscheme": ("ldap", "ldaps"),
}


def read_rules(lines: Iterable[Line], groups: Groups) -> tuple[list[Rule], list[Fault]]:
    """Read the lines of an HBA file.

    What is no rule as PostgreSQL cuts the line may be one as PgBouncer does. It is never both: the
    latter has fewer fields, and what stands where the method should is none.
    """
    return read_each(lines, lambda line: _read_line(line, groups))


def _read_line(line: Line, groups: Groups) -> Rule:
    try:
        return _read_rule(line, groups)
    except UnreadableLineError:
        if (joined := line.joined()) is None:
            raise
    return _read_rule(joined, groups)


def _read_rule(line: Line, groups: Groups) -> Rule:
    fields = _Fields(line.fields)
    kind = fields.one("the type")
    if kind.text not in _TYPES:
        raise UnreadableLineError(f'"{kind.text}" is no type; it is one of {", ".join(_TYPES)}')
    databases = read_databases(fields.next("the database"))
    users = read_users(fields.next("the user"), groups)
    place = None
    if kind.text != "local":
        address = fields.one("the address")
        mask = fields.one("the mask, or bits behind the address") if wants_mask(address) else None
        place = read_place(address, mask)
    method = _read_method(fields.one("the method").text, kind.text)
    options = _read_options(fields.rest(), kind.text, method)
    return Rule(
        kind.text,
        databases,
        users,
        place,
        method,
        MappingProxyType(options),
        line.file,
        line.number,
    )


class _Fields:
    """Fields of a line, taken from left to right. Raises UnreadableLineError at the end."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self._fields = list(reversed(fields))

    def next(self, what: str) -> Field:
        if not self._fields:
            raise UnreadableLineError(f"the line ends where {what} should stand")
        return self._fields.pop()

    def one(self, what: str) -> Word:
        words = self.next(what)
        if len(words) > 1:
            raise UnreadableLineError(f"{what} is one word, not a list")
        return words[0]

    def rest(self) -> Iterable[str]:
        for words in reversed(self._fields):
            for word in words:
                yield word.text


def _read_method(method: str, kind: str) -> str:
    if method == "ident" and kind == "local":
        return "peer"  # as PostgreSQL
    if method in _METHODS_ELSEWHERE:
        raise UnreadableLineError(f"{method} is not available: {_METHODS_ELSEWHERE[method]}")
    if method not in METHODS:
        raise UnreadableLineError(f'"{method}" is no method; it is one of {", ".join(METHODS)}')
    if method == "peer" and kind != "local":
        raise UnreadableLineError("peer is for local connections alone: it asks the kernel")
    # PostgreSQL wants hostssl. PgBouncer takes host; who comes without TLS has no certificate.
    if method == "cert" and kind not in ("hostssl", "host"):
        raise UnreadableLineError(
            "cert is for hostssl or host: without TLS there is no certificate"
        )
    return method


def _read_options(words: Iterable[str], kind: str, method: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UnreadableLineError(
                "behind the method stand options as name=value; one of them has no ="
            )
        if name not in _OPTIONS:
            raise UnreadableLineError(f'"{name}" is no option')
        methods = _OPTIONS[name]
        if methods is not None and method not in methods:
            raise UnreadableLineError(f"{name} goes with {', '.join(methods)} alone")
        if name in _TLS_OPTIONS and kind != "hostssl":
            raise UnreadableLineError(f"{name} goes with hostssl alone")
        if name in _VALUES and value not in _VALUES[name]:
            raise UnreadableLineError(f"{name} is {' or '.join(_VALUES[name])}")
        options[name] = value
    for check in _CHECKS:
        if (wrong := check(method, options)) is not None:
            raise UnreadableLineError(wrong)
    return options


def _check_certificate(method: str, options: Mapping[str, str]) -> str | None:
    if method == "cert" and options.get("clientcert") == "verify-ca":
        return "cert is always clientcert=verify-full"
    return None


def _check_ldap(method: str, options: Mapping[str, str]) -> str | None:
    if method != "ldap" or not any(name.startswith("ldap") for name in options):
        return None  # what auth.ldap says holds
    searches = (
        "ldapbasedn",
        "ldapbinddn",
        "ldapbindpasswd",
        "ldapsearchattribute",
        "ldapsearchfilter",
    )
    binds = any(name in options for name in ("ldapprefix", "ldapsuffix"))
    if binds and any(name in options for name in searches):
        return "ldapprefix and ldapsuffix make a name to log in with; they do not go with a search"
    if not binds and "ldapbasedn" not in options and "ldapurl" not in options:
        return "ldap needs ldapbasedn, ldapprefix, ldapsuffix or ldapurl"
    if "ldapsearchattribute" in options and "ldapsearchfilter" in options:
        return "ldapsearchattribute and ldapsearchfilter are two ways to search; keep one"
    return None


def _check_oauth(method: str, options: Mapping[str, str]) -> str | None:
    if method == "oauth" and options.get("delegate_ident_mapping", "0") != "0":
        return "delegate_ident_mapping is not known here; name a map"
    return None


_CHECKS = (_check_certificate, _check_ldap, _check_oauth)
