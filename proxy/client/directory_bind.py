"""Does a directory let this user in with this password? By LDAP; blocks, so it runs aside.

The password is held against the directory by binding with it, as PostgreSQL does. Names of users
are escaped, in distinguished names and in filters alike. Imported only where LDAP is asked for:
python-ldap is an extra.

Source: PostgreSQL documentation, "LDAP Authentication"; RFC 4511, 4513 (section 5.1.2, a bind
without a password succeeds as nobody), 4514 and 4515 (escaping).
"""

import contextlib
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ldap
from ldap.dn import escape_dn_chars
from ldap.filter import escape_filter_chars

from proxy.config import Ldap

T = TypeVar("T")

_SCOPES = {
    "base": ldap.SCOPE_BASE,
    "one": ldap.SCOPE_ONELEVEL,
    "sub": ldap.SCOPE_SUBTREE,
}
_NO_ATTRIBUTES = ["1.1"]  # RFC 4511, section 4.5.1.8


class DirectoryError(Exception):
    """The directory cannot be asked as it is configured. Its text is for the log."""


def ask_directory(options: Ldap, user: str, password: str) -> str | None:
    """Give None when the directory accepts the password, else the reason why it does not.

    user, password: as by `surrogateescape`; the password is not empty. Raises DirectoryError.
    """
    try:
        name, secret = user.encode().decode(), password.encode().decode()
    except UnicodeEncodeError:
        return "its name or password is not UTF-8"
    if not secret:
        return "the password sent is empty"
    if not _is_itself(name):
        return "a directory would take its name for another one"
    failed = DirectoryError("no LDAP server is named")
    # One that is silent must leave time for the next.
    options = options.model_copy(update={"timeout": options.timeout / max(1, len(options.servers))})
    for server in options.servers:
        try:
            return _ask_server(server, options, name, secret)
        except (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.BUSY, ldap.UNAVAILABLE) as error:
            failed = DirectoryError(f"{server}: {_say(error)}")
        except ldap.LDAPError as error:
            raise DirectoryError(f"{server}: {_say(error)}") from None
    raise failed


def _is_itself(name: str) -> bool:
    """Whether a directory can take this name for no other one, as far as it is not about case.

    It ignores spaces around a name and doubled ones within, and characters that are not seen; here
    each of these would be a user of its own, with limits of its own. Source: RFC 4518.
    """
    return (
        name.isprintable()
        and " ".join(name.split()) == name
        and unicodedata.normalize("NFKC", name) == name
    )


def _ask_server(server: str, options: Ldap, user: str, password: str) -> str | None:
    if options.ldapbasedn is None:
        return _bind(
            server,
            options,
            options.ldapprefix + escape_dn_chars(user) + options.ldapsuffix,
            password,
        )
    found = _search(server, options, user)
    if len(found) == 1:
        return _bind(server, options, found[0], password)
    # One more bind, that must fail: whether there is such a user is not to show in the time.
    _bind(server, options, f"cn={secrets.token_hex(8)},{options.ldapbasedn}", password)
    return "the directory has no such user" if not found else "the directory has several such users"


def _bind(server: str, options: Ldap, name: str, password: str) -> str | None:
    def bind(connection: Any) -> str | None:
        try:
            connection.simple_bind_s(name, password)
        except (ldap.INVALID_CREDENTIALS, ldap.INVALID_DN_SYNTAX, ldap.NO_SUCH_OBJECT) as error:
            return f"the directory refuses the bind: {_say(error)}"
        except (ldap.INAPPROPRIATE_AUTH, ldap.UNWILLING_TO_PERFORM) as error:
            return f"the directory refuses the bind: {_say(error)}"
        return None

    return _with_connection(server, options, bind)


def _search(server: str, options: Ldap, user: str) -> list[str]:
    """The names of those who are that user; two are as many as are asked for."""
    escaped = escape_filter_chars(user)
    attribute = options.ldapsearchattribute or "uid"
    by_attribute = options.ldapsearchfilter is None
    if options.ldapsearchfilter is not None:
        condition = options.ldapsearchfilter.replace("$username", escaped)
    else:
        condition = f"({attribute}={escaped})"

    def search(connection: Any) -> list[str]:
        try:
            connection.simple_bind_s(options.ldapbinddn, str(options.ldapbindpasswd))
            rows = connection.search_ext_s(
                options.ldapbasedn,
                _SCOPES[options.ldapscope],
                condition,
                [attribute] if by_attribute else _NO_ATTRIBUTES,
                sizelimit=2,
            )
        except ldap.SIZELIMIT_EXCEEDED:
            return ["", ""]
        except ldap.INVALID_CREDENTIALS:
            raise DirectoryError(f"{server}: it refuses ldapbinddn and ldapbindpasswd") from None
        # Referrals come without a name; they are not followed.
        entries = [(name, said) for name, said in rows if name]
        if by_attribute:
            # Directories mostly ignore case, and users do not.
            entries = [each for each in entries if user.encode() in _values(each[1], attribute)]
        return [name for name, _ in entries]

    return _with_connection(server, options, search)


def _values(entry: Mapping[str, list[bytes]], attribute: str) -> list[bytes]:
    """An attribute's values; the server may write its name in another case."""
    return [
        value
        for name, values in entry.items()
        if name.lower() == attribute.lower()
        for value in values
    ]


def _with_connection(server: str, options: Ldap, work: Callable[[Any], T]) -> T:
    connection = ldap.initialize(server)
    try:
        connection.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        # Referrals would carry the password to servers nobody configured.
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, options.timeout)
        connection.set_option(ldap.OPT_TIMEOUT, options.timeout)
        if options.ldaptls or options.ldapscheme == "ldaps":
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            if options.ldapca is not None:
                connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(options.ldapca))
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if options.ldaptls:
            connection.start_tls_s()
        return work(connection)
    finally:
        with contextlib.suppress(ldap.LDAPError):
            connection.unbind_s()


def _say(error: ldap.LDAPError) -> str:
    """What libldap says of an error; what the server adds stays out, it may quote anything."""
    said = error.args[0] if error.args else None
    text = said.get("desc") if isinstance(said, dict) else None
    return str(text or type(error).__name__)
