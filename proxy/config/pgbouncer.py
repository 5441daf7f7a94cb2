"""PgBouncer's `pgbouncer.ini` as a document of ours: the same tree that a YAML file would give.

What PgBouncer has flat is put into its place, and what holds there when a key is absent is written
out where ours differs. Every value remembers the file, the line and the name it has in the ini, so
that whoever judges the tree can speak of that. The tables are in `pgbouncer_keys`; here is what no
single key says: which databases share a cluster, and who asks the nodes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config.document import Document, Place
from proxy.config.pgbouncer_keys import DATABASES, PEERS, PGBOUNCER, USERS, Key, file
from proxy.config.pgbouncer_syntax import Entry, IniText, read_pairs
from proxy.config.problems import Problem, suggest
from proxy.config.section import KeyPath

_SECTIONS = ("pgbouncer", "databases", "users", "peers")
_LDAP_OPTION = re.compile(r'\s*([a-z]+)=("(?:[^"]|"")*"|[^\s"]+)')
_ONLY_WITH_HBA = ("auth_hba_file", "auth_ident_file")


@dataclass(frozen=True, slots=True)
class _Source:
    """What makes two databases share a cluster: the same servers, asked in the same way."""

    hosts: tuple[str, ...]
    port: int
    serve_from: str
    auth_user: str | None
    auth_query: str | None
    auth_dbname: str | None

    def __str__(self) -> str:
        return f"{','.join(self.hosts)}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Database:
    """One line of `[databases]`, read: where it is, and the rest of what it says."""

    entry: Entry
    pairs: Mapping[str, str]
    source: _Source
    is_read_only: bool

    @property
    def dbname(self) -> str | None:
        """Its name on the servers, None where the client's word decides."""
        return self.pairs.get("dbname", None if self.entry.key == "*" else self.entry.key)


def translate(
    text: str, file_name: str, include: Callable[[str], str], locate: Callable[[str], str]
) -> Document:
    """Translate a `pgbouncer.ini`.

    file_name: its name in messages. include: gives the text of an included file; raises OSError.
    locate: gives the absolute path of a file that is named in it.
    What is wrong, and what is lost, is noted in the result.
    """
    ini = IniText(text, file_name, include)
    translation = _Translation(locate)
    translation.document.problems.extend(ini.problems)
    translation.translate(ini.entries)
    return translation.document


class _Translation:
    """One file on its way."""

    def __init__(self, locate: Callable[[str], str]) -> None:
        self.document = Document(tree={})
        self._locate = locate
        self._sections: dict[str, dict[str, Entry]] = {name: {} for name in _SECTIONS}
        self._server_tls: dict[str, Any] = {}
        # Asked by those databases that have an auth_user of their own.
        self._common_query: str | None = None
        self._databases: list[_Database] = []

    def translate(self, entries: list[Entry]) -> None:
        """Fill the document."""
        # The order of the sections as people read them.
        for section in ("listen", "log", "process", "auth", "clusters", "databases", "limits"):
            self.document.tree[section] = {}
        self._set(("log", "format"), "pgbouncer")
        for entry in entries:
            if entry.section in self._sections:
                # What is given twice counts the last time.
                self._sections[entry.section].pop(entry.key, None)
                self._sections[entry.section][entry.key] = entry
            else:
                self._wrong(
                    entry,
                    entry.key,
                    f"unknown section [{entry.section}]; known are "
                    f"{', '.join(f'[{name}]' for name in _SECTIONS)}",
                )
        self._read_pgbouncer(self._sections["pgbouncer"])
        for entry in self._sections["databases"].values():
            self._read_database(entry)
        self._place_databases()
        for entry in self._sections["users"].values():
            for name, value in self._pairs(entry, USERS).items():
                self._carry(entry, USERS[name], value, ("auth", "users", entry.key), name)
            self._set(("auth", "users", entry.key), {}, entry, entry.key)
        for entry in self._sections["peers"].values():
            self._pairs(entry, dict.fromkeys(PEERS, Key(str)))
            self._remark(entry, f"peers.{entry.key}", PGBOUNCER["peer_id"].lost(entry.key) or "")
        tree = self.document.tree
        self.document.tree = {key: each for key, each in tree.items() if each}

    # --- [pgbouncer] ---------------------------------------------------------------------------

    def _read_pgbouncer(self, given: Mapping[str, Entry]) -> None:
        for name, entry in given.items():
            if name not in PGBOUNCER:
                self._wrong(entry, name, f"unknown key; {suggest(name, list(PGBOUNCER))}")
        for name, key in PGBOUNCER.items():
            found = given.get(name)
            if found is not None:
                self._carry(found, key, found.value, (), name)
            elif key.is_said and key.path is not None:
                self._set(key.path, key.read(key.default))
        self._settle_auth(given)

    def _settle_auth(self, given: Mapping[str, Entry]) -> None:
        """What keys about logins mean for each other."""
        auth = self.document.tree["auth"]
        method = auth.get("method")
        for name in _ONLY_WITH_HBA:
            path = PGBOUNCER[name].path
            if path is not None and path[-1] in auth and method != "hba":
                del auth[path[-1]]
                self._remark(given[name], name, "nobody reads it unless auth_type is hba")
        if method == "pam":
            self._set(("auth", "pam", "pamservice"), "pgbouncer")
        if "query" in auth and "query_user" not in auth:
            self._common_query = auth.pop("query")
            if not any("auth_user" in each.value for each in self._sections["databases"].values()):
                self._remark(given["auth_query"], "auth_query", "nobody asks it without auth_user")
        options = given.get("auth_ldap_options")
        if options is not None:
            self._read_ldap_options(options)

    def _read_ldap_options(self, entry: Entry) -> None:
        at = 0
        while at < len(entry.value):
            found = _LDAP_OPTION.match(entry.value, at)
            if found is None:
                self._wrong(entry, entry.key, 'not options; write name=value or name="value"')
                return
            value = found[2]
            if value.startswith('"'):
                value = value[1:-1].replace('""', '"')
            self._set(("auth", "ldap", found[1]), value, entry, entry.key)
            at = found.end()

    # --- [databases] ---------------------------------------------------------------------------

    def _read_database(self, entry: Entry) -> None:
        pairs = self._pairs(entry, DATABASES)
        read: dict[str, Any] = {}
        for name in ("port", "load_balance_hosts", "target_session_attrs"):
            key = DATABASES[name]
            written = pairs.get(name, key.default)
            try:
                read[name] = key.read(written)
            except ValueError as error:
                self._wrong(entry, f"databases.{entry.key}.{name}", str(error))
                read[name] = key.read(key.default)
        hosts = tuple(each.strip() for each in pairs.get("host", "").split(",") if each.strip())
        if not hosts:
            folder = self.document.tree["listen"].get("unix_socket_dir")
            if folder is None:
                self._wrong(
                    entry,
                    f"databases.{entry.key}",
                    "no host, and no unix_socket_dir to find a server's socket in; write host=",
                )
                return
            hosts = (folder,)
        attributes = read["target_session_attrs"]
        serve_from = "first" if read["load_balance_hosts"] == "disable" else "any"
        source = _Source(
            hosts,
            read["port"],
            serve_from if attributes == "any" else "primary",
            pairs.get("auth_user"),
            pairs.get("auth_query"),
            pairs.get("auth_dbname") or self._said(self._sections["pgbouncer"], "auth_dbname"),
        )
        is_read_only = attributes in ("read-only", "standby")
        self._databases.append(_Database(entry, pairs, source, is_read_only))

    def _place_databases(self) -> None:
        """Put the databases into the tree, and the servers they are on."""
        named: dict[_Source, str] = {}
        sources = {each.source for each in self._databases}
        for database in self._databases:
            source, entry = database.source, database.entry
            if source not in named:
                name = "main" if len(sources) == 1 else str(source)
                taken = sum(1 for known in named if str(known) == str(source))
                named[source] = f"{name}#{taken + 1}" if taken else name
                self._make_cluster(named[source], database)
            path: KeyPath = ("databases", entry.key)
            self._set((*path, "cluster"), named[source])
            self._mark(path, entry, f"databases.{entry.key}")
            for name, value in database.pairs.items():
                key = DATABASES[name]
                if key.path is not None:
                    self._carry(entry, key, value, path, name)
                elif (lost := key.lost(value)) is not None:
                    self._remark(entry, f"databases.{entry.key}.{name}", lost)
            if database.is_read_only:
                route = {"match": {"database": entry.key}, "to": "replica"}
                self.document.tree.setdefault("routes", []).append(route)

    def _make_cluster(self, name: str, first: _Database) -> None:
        """A cluster of the servers that this database, the first of its kind, is on."""
        source, entry = first.source, first.entry
        path: KeyPath = ("clusters", name)
        for index in range(len(source.hosts)):
            self._mark((*path, "nodes", index), entry, f"databases.{entry.key}.host")
            self._mark((*path, "nodes", index, "port"), entry, f"databases.{entry.key}.port")
        self._set((*path, "nodes"), [{"host": host, "port": source.port} for host in source.hosts])
        if source.serve_from != "primary":
            self._set((*path, "serve_from"), source.serve_from)
        alike = [each for each in self._databases if each.source == source]
        if any(each.is_read_only for each in alike):
            # PgBouncer promises nothing about what a standby has replayed.
            self._set((*path, "consistency"), "none")
        asks_as = source.auth_user or self.document.tree["auth"].get("query_user")
        forced = next((each.pairs for each in alike if "user" in each.pairs), {})
        if asks_as is not None:
            self._set((*path, "monitor", "user"), asks_as)
        elif forced:
            self._set((*path, "monitor", "user"), forced["user"])
            if "password" in forced:
                self._set((*path, "monitor", "password"), forced["password"])
        dbname = next((each.dbname for each in alike if each.dbname is not None), None)
        if dbname is not None:
            self._set((*path, "monitor", "dbname"), dbname)
        if asks_as is not None:
            self._set_query(path, first, dbname)
        for key, value in self._server_tls.items():
            self._set((*path, "server", "tls", key), value)
            self.document.places[*path, "server", "tls", key] = self.document.places[
                "server_tls", key
            ]

    def _set_query(self, path: KeyPath, first: _Database, dbname: str | None) -> None:
        """Where and how the users of a cluster are looked up."""
        source, entry = first.source, first.entry
        # PgBouncer asks at every login.
        self._set(("auth", "query_ttl"), 0)
        if source.auth_user is not None:
            self._set((*path, "query_user"), source.auth_user, entry, f"{entry.key}.auth_user")
        query = source.auth_query or self._common_query
        if query is not None:
            self._set((*path, "query"), query, entry, f"{entry.key}.auth_query")
        if source.auth_dbname:
            other = next((e for e in self._databases if e.entry.key == source.auth_dbname), None)
            if other is not None and other.source.hosts != source.hosts:
                self._remark(
                    entry,
                    f"databases.{entry.key}.auth_dbname",
                    f"{source.auth_dbname} is on another server; users are looked up on their own",
                )
            else:
                dbname = source.auth_dbname if other is None else other.dbname
        if dbname is not None:
            self._set((*path, "query_database"), dbname)

    # --- lines ---------------------------------------------------------------------------------

    def _pairs(self, entry: Entry, keys: Mapping[str, Key]) -> dict[str, str]:
        """The pairs of a line that are known; of one that stands twice the last counts."""
        place = f"{entry.section}.{entry.key}"
        pairs: dict[str, str] = {}
        try:
            for name, value in read_pairs(entry.value):
                if name in keys:
                    pairs[name] = value
                else:
                    self._wrong(
                        entry, f"{place}.{name}", f"unknown key; {suggest(name, list(keys))}"
                    )
        except ValueError as error:
            self._wrong(entry, place, str(error))
        return pairs

    def _carry(self, entry: Entry, key: Key, written: str, below: KeyPath, name: str) -> None:
        """Put what is written for a key into the tree, below a path, and say what is lost."""
        full = f"{entry.section}.{entry.key}.{name}" if below else name
        path = None if key.path is None else (*below, *key.path)
        if path is not None:
            self._mark(path, entry, full)
        try:
            value = key.read(written)
        except ValueError as error:
            if path is None:
                self._wrong(entry, full, str(error))
            else:
                self.document.wrong.append((entry.line, path, str(error)))
            return
        if (lost := key.lost(written)) is not None:
            self._remark(entry, full, lost)
        if path is None or value is None:
            return
        if key.read is file:
            value = self._locate(value)
        elif isinstance(value, int | str) and name != "password":
            self.document.written[path] = written
        if path[0] == "server_tls":
            self._server_tls[str(path[1])] = value
        else:
            self._set(path, value)

    def _said(self, given: Mapping[str, Entry], name: str) -> str:
        """What is written for a key of `[pgbouncer]`, or what holds when it is absent."""
        return given[name].value if name in given else PGBOUNCER[name].default

    def _set(self, path: KeyPath, value: Any, entry: Entry | None = None, name: str = "") -> None:
        """Put a value into the tree; a mapping that is there already stays."""
        here = self.document.tree
        for part in path[:-1]:
            here = here.setdefault(part, {})
        if value == {}:
            here.setdefault(path[-1], value)
        else:
            here[path[-1]] = value
        if entry is not None:
            self._mark(path, entry, f"{entry.section}.{name}")

    def _mark(self, path: KeyPath, entry: Entry, name: str) -> None:
        self.document.places[path] = Place(entry.file, entry.line, name)

    def _wrong(self, entry: Entry, name: str, text: str) -> None:
        self.document.problems.append(Problem(entry.file, entry.line, name, text))

    def _remark(self, entry: Entry, name: str, text: str) -> None:
        self.document.remarks.append(Problem(entry.file, entry.line, name, text))
