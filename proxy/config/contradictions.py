"""What no single value shows: references to nothing, and keys that need or exclude each other.

Judges a configuration whose values are all sound by themselves. Looks at no file and no clock;
called by `load` and by nobody else.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.config.access import Auth, User
from proxy.config.elsewhere import Ldap, Oauth
from proxy.config.listening import ClientTls
from proxy.config.model import Config
from proxy.config.problems import suggest
from proxy.config.secret import Secret
from proxy.config.section import KeyPath
from proxy.config.topology import Cluster, ServerLogin, ServerTls

_CONSOLE_NAMES = ("pgweir", "pgbouncer")
_DISCOVERED = ("primary", "replica")
_MD5 = re.compile(r"md5[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Values that cannot stand together.

    path: where to say so. text: what is wrong and what would be right. others: paths of the values
    it also depends on; when one of them is already known to be wrong, this is no news.
    """

    path: KeyPath
    text: str
    others: tuple[KeyPath, ...] = ()


def find_contradictions(config: Config) -> Iterator[Contradiction]:
    """All that values of the configuration say against each other, in the order of the keys."""
    yield from _in_listen(config)
    yield from _in_http(config)
    yield from _in_auth(config)
    yield from _in_clusters(config)
    yield from _in_databases(config)
    yield from _in_sizes(config)
    yield from _in_routes(config)


def _in_tls(path: KeyPath, tls: ClientTls | ServerTls) -> Iterator[Contradiction]:
    cert, key = (*path, "cert"), (*path, "key")
    if tls.cert is not None and tls.key is None:
        yield Contradiction(cert, "a certificate without its key; name the key's file", (key,))
    if tls.key is not None and tls.cert is None:
        yield Contradiction(
            key, "a key without its certificate; name the certificate's file under cert", (cert,)
        )


def _in_server_tls(path: KeyPath, tls: ServerTls) -> Iterator[Contradiction]:
    yield from _in_tls(path, tls)
    if tls.negotiation == "direct" and tls.mode in ("disable", "allow", "prefer"):
        yield Contradiction(
            (*path, "negotiation"),
            f"direct TLS has no way back, and mode is {tls.mode}; write mode: require, verify-ca "
            "or verify-full",
            ((*path, "mode"),),
        )


def _in_http(config: Config) -> Iterator[Contradiction]:
    auth = None if config.http is None else config.http.auth
    if auth is None:
        return
    user, password = ("http", "auth", "user"), ("http", "auth", "password")
    if auth.user is not None and auth.password is None:
        yield Contradiction(
            user,
            "a user without a password; write one under password or password_file",
            (password,),
        )
    if auth.password is not None and auth.user is None:
        yield Contradiction(password, "a password without a user; write one under user", (user,))
    if auth.user is None and auth.password is None and not auth.token:
        yield Contradiction(
            ("http", "auth"),
            "lets nobody in; write user and password, or token",
            (user, password, ("http", "auth", "token")),
        )


def _in_listen(config: Config) -> Iterator[Contradiction]:
    tls = config.listen.tls
    path: KeyPath = ("listen", "tls")
    mode, cert, key = (*path, "mode"), (*path, "cert"), (*path, "key")
    yield from _in_tls(path, tls)
    if tls.mode != "disable" and tls.cert is None and tls.key is None:
        yield Contradiction(
            mode, f"{tls.mode} needs a certificate; name its files under cert and key", (cert, key)
        )
    if tls.mode in ("verify-ca", "verify-full") and tls.ca is None:
        yield Contradiction(
            mode,
            f"{tls.mode} needs the authorities that sign clients' certificates; name their file "
            "under ca",
            ((*path, "ca"),),
        )
    if tls.cert is not None and "mode" not in tls.model_fields_set:
        yield Contradiction(
            cert, "a certificate, but no mode; write mode: allow, prefer or require", (mode,)
        )


def _in_auth(config: Config) -> Iterator[Contradiction]:
    auth = config.auth
    if auth.query is not None and auth.query_user is None:
        for name, cluster in config.clusters.items():
            if cluster.server.user is None and cluster.query_user is None:
                yield Contradiction(
                    ("auth", "query"),
                    f"nobody to ask it as in cluster {name}; write query_user, or a server.user",
                    (("clusters", name, "server"), ("auth", "query_user")),
                )
    yield from _in_rules(config)
    yield from _in_old_passwords(auth.users)
    yield from _in_judges(auth)
    users: KeyPath = ("auth", "users")
    userlist: KeyPath = ("auth", "userlist_file")
    if auth.method in ("any", "trust") and not auth.users:
        return
    # Who is found elsewhere, or in a list that somebody else keeps, may yet come.
    if auth.userlist_file is not None or config.has_query or auth.is_judged_elsewhere:
        return
    for key, names in (("admins", auth.admins), ("stats", auth.stats)):
        for index, name in enumerate(names):
            if name not in auth.users:
                yield Contradiction(
                    ("auth", key, index),
                    f"there is no user {name!r}; {suggest(name, list(auth.users))}"
                    if auth.users
                    else f"there is no user {name!r}; add it under auth.users",
                    ((*users, name), userlist),
                )


def _in_rules(config: Config) -> Iterator[Contradiction]:
    """How rules and certificates go with the rest."""
    auth, tls = config.auth, config.listen.tls
    method: KeyPath = ("auth", "method")
    if auth.method == "hba" and auth.hba_file is None:
        yield Contradiction(
            method, "hba needs rules; name their file under hba_file", (("auth", "hba_file"),)
        )
    if auth.method != "hba" and auth.hba_file is not None:
        yield Contradiction(
            ("auth", "hba_file"), f"nobody reads it with method {auth.method}; write hba", (method,)
        )
    if auth.method == "cert" and (tls.mode == "disable" or tls.ca is None):
        yield Contradiction(
            method,
            "cert needs TLS and authorities; write listen.tls with mode: require and ca",
            (("listen", "tls"),),
        )
    if auth.map is not None and auth.method not in ("cert", "oauth"):
        yield Contradiction(
            ("auth", "map"),
            f"nobody asks for it with method {auth.method}"
            + ("; write map= behind a rule" if auth.method == "hba" else "; write method: cert"),
            (method,),
        )
    if auth.map is not None and auth.ident_file is None:
        yield Contradiction(
            ("auth", "map"),
            "a map, but no file of maps; name it under ident_file",
            (("auth", "ident_file"),),
        )
    for name, members in auth.groups.items():
        for index, member in enumerate(members):
            if member.startswith("+") and member[1:] not in auth.groups:
                yield Contradiction(
                    ("auth", "groups", name, index),
                    f"there is no group {member[1:]!r}; {suggest(member[1:], list(auth.groups))}",
                )


def _in_old_passwords(users: Mapping[str, User]) -> Iterator[Contradiction]:
    for name, user in users.items():
        path: KeyPath = ("auth", "users", name)
        if user.old_password is None:
            continue
        if user.password is None:
            text = "the one before, but there is no password; write the present one under password"
            yield Contradiction((*path, "old_password"), text, ((*path, "password"),))
        elif _form_of(user.password) != _form_of(user.old_password):
            yield Contradiction(
                (*path, "old_password"),
                "not of the form that password has; write both in plain, both as md5, or both as "
                "verifiers with the same salt and iterations",
                ((*path, "password"),),
            )


def _form_of(secret: Secret) -> str:
    """What a client is asked for depends on this alone."""
    if secret.startswith("SCRAM-SHA-256$"):
        return secret.rpartition("$")[0]
    return "md5" if _MD5.fullmatch(secret) else "plain"


def _in_judges(auth: Auth) -> Iterator[Contradiction]:
    """What a method needs so that somebody else can judge."""
    sections: dict[str, Ldap | Oauth] = {"ldap": auth.ldap, "oauth": auth.oauth}
    section = sections.get(auth.method)
    if section is not None and (lack := section.lack) is not None:
        yield Contradiction(
            ("auth", "method"),
            f"{auth.method} needs auth.{auth.method}.{lack}",
            (("auth", auth.method),),
        )


def _in_clusters(config: Config) -> Iterator[Contradiction]:
    if not config.clusters:
        yield Contradiction(
            ("clusters",),
            "required, but absent; write clusters: {main: {nodes: [{host: 10.0.0.10}]}}",
        )
    for name, cluster in config.clusters.items():
        path: KeyPath = ("clusters", name)
        nodes = (*path, "nodes")
        if not cluster.nodes:
            yield Contradiction(nodes, "no nodes; list one at least: - {host: 10.0.0.10}")
        named = Counter[str]()
        for index, node in enumerate(cluster.nodes):
            named[node.name] += 1
            if named[node.name] > 1:
                yield Contradiction(
                    (*nodes, index, "name"),
                    f"a second node named {node.name!r}; each needs a name of its own",
                    ((*nodes, index),),
                )
            for role_index, role in enumerate(node.roles):
                if role in _DISCOVERED:
                    yield Contradiction(
                        (*nodes, index, "roles", role_index),
                        f"which node is {role} is discovered, never declared; use another word",
                    )
        yield from _in_login((*path, "server"), cluster.server, cluster.server.user)
        yield from _in_failover((*path, "failover"), cluster)
        if config.redis is not None and cluster.replicas.max_lag > config.redis.ttl:
            yield Contradiction(
                ("redis", "ttl"),
                "writes would be forgotten before every replica has them; make it longer than "
                "max_lag",
                ((*path, "replicas", "max_lag"),),
            )


def _in_failover(path: KeyPath, cluster: Cluster) -> Iterator[Contradiction]:
    failover = cluster.failover
    if failover.mode != "promote":
        return
    if failover.patroni.urls:
        yield Contradiction(
            (*path, "mode"),
            "promote, although Patroni promotes here; write follow",
            ((*path, "patroni"),),
        )
    coordinator = failover.coordinator
    if failover.proxies > 1 and coordinator.etcd is None and coordinator.kubernetes is None:
        yield Contradiction(
            (*path, "mode"),
            f"{failover.proxies} proxies would each promote on their own; say under coordinator "
            "where they agree, or write follow in all but one of them and proxies: 1 in that one",
            ((*path, "proxies"), (*path, "coordinator")),
        )
    if coordinator.etcd is not None and coordinator.kubernetes is not None:
        yield Contradiction(
            (*path, "coordinator"),
            "proxies agree in one place only: etcd or kubernetes",
            ((*path, "coordinator", "etcd"), (*path, "coordinator", "kubernetes")),
        )
    if coordinator.etcd is not None and not coordinator.etcd.endpoints:
        yield Contradiction(
            (*path, "coordinator", "etcd", "endpoints"),
            "no endpoints; list one at least: [http://10.0.0.1:2379]",
        )
    if len(cluster.nodes) > 1 and not any(node.priority for node in cluster.nodes):
        yield Contradiction(
            (*path, "mode"),
            "promote, but every node has priority 0, which is never promoted",
        )


def _in_login(path: KeyPath, login: ServerLogin, user: str | None) -> Iterator[Contradiction]:
    """How the proxy logs in to nodes. user: who the password is for."""
    yield from _in_server_tls((*path, "tls"), login.tls)
    if not login.password_command:
        return
    command = (*path, "password_command")
    if login.password is not None:
        # Also that of a password_file, which has taken its place by now.
        yield Contradiction(
            command, "given together with a password; keep one of the two", ((*path, "password"),)
        )
    if user is None:
        yield Contradiction(
            command, "a password, but for nobody; write the user under user", ((*path, "user"),)
        )


def _in_databases(config: Config) -> Iterator[Contradiction]:
    if not config.databases:
        yield Contradiction(
            ("databases",),
            'required, but absent; write databases: {"*": {cluster: NAME}} for any name',
        )
    for name, database in config.databases.items():
        path: KeyPath = ("databases", name)
        if name in _CONSOLE_NAMES:
            yield Contradiction(path, "this name is the admin console's; choose another")
        if database.cluster not in config.clusters:
            known = list(config.clusters)
            yield Contradiction(
                (*path, "cluster"),
                f"there is no cluster {database.cluster!r}; {suggest(database.cluster, known)}",
                (("clusters", database.cluster),),
            )
        if database.server is not None:
            cluster = config.clusters.get(database.cluster)
            user = database.server.user or (cluster.server.user if cluster is not None else "")
            yield from _in_login((*path, "server"), database.server, user)


def _in_sizes(config: Config) -> Iterator[Contradiction]:
    of_everything = config.limits
    sections = [(("limits",), of_everything.min_pool_size, of_everything.pool_size)]
    holders: list[tuple[KeyPath, int | None, int | None]] = list(sections)
    for name, database in config.databases.items():
        holders.append((("databases", name), database.min_pool_size, database.pool_size))
    for name, user in config.auth.users.items():
        holders.append((("auth", "users", name), user.min_pool_size, user.pool_size))
    for path, smallest, largest in holders:
        if smallest is not None and largest is not None and smallest > largest:
            yield Contradiction(
                (*path, "min_pool_size"),
                f"{smallest} is more than pool_size, {largest}; make it smaller",
                ((*path, "pool_size"),),
            )


def _in_routes(config: Config) -> Iterator[Contradiction]:
    roles = {
        role: None
        for cluster in config.clusters.values()
        for node in cluster.nodes
        for role in node.roles
    }
    for index, route in enumerate(config.routes):
        if route.to is not None and route.to not in _DISCOVERED and route.to not in roles:
            yield Contradiction(
                ("routes", index, "to"),
                f"no node has the role {route.to!r}; {suggest(route.to, [*_DISCOVERED, *roles])}",
                (("clusters",),),
            )
