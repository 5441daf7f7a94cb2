"""PgBouncer's file: what each key comes to, what is said when it is wrong, and the same as YAML."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Config, ConfigError, Origin, convert, load, parse
from proxy.config.model import Config as Root
from proxy.config.pgbouncer_keys import DATABASES, PGBOUNCER, USERS
from proxy.config.pgbouncer_syntax import read_pairs
from proxy.config.shape import section_at

FILE = Path("{folder}/file")
SOUND = "[databases]\nshop = host=10.0.0.1\n"

# What stands in the file -> what it comes to, by attributes of the configuration.
KEYS = [
    ("logfile = {folder}/p.log", "log.file", Path("{folder}/p.log")),
    ("pidfile = {folder}/p.pid", "process.pidfile", Path("{folder}/p.pid")),
    ("listen_addr = 10.0.0.7, ::1", "listen.host", "10.0.0.7, ::1"),
    ("listen_port = 5433", "listen.port", 5433),
    ("unix_socket_dir = {folder}", "listen.unix_socket_dir", Path("{folder}")),
    ("unix_socket_dir =", "listen.unix_socket_dir", None),
    ("unix_socket_mode = 0700", "listen.unix_socket_mode", "0700"),
    ("unix_socket_group = staff", "listen.unix_socket_group", "staff"),
    ("user = pgbouncer", "process.user", "pgbouncer"),
    ("pool_mode = Transaction", "limits.pool_mode", "transaction"),
    ("max_client_conn = 5000", "listen.max_client_conn", 5000),
    ("default_pool_size = 0x10", "limits.pool_size", 16),
    ("min_pool_size = 3", "limits.min_pool_size", 3),
    ("reserve_pool_size = 010", "limits.reserve_pool_size", 8),
    ("reserve_pool_timeout = 2.5", "limits.reserve_pool_timeout", 2.5),
    ("max_db_connections = 50", "limits.max_db_connections", 50),
    ("max_db_client_connections = 51", "limits.max_db_client_connections", 51),
    ("max_user_connections = 52", "limits.max_user_connections", 52),
    ("max_user_client_connections = 53", "limits.max_user_client_connections", 53),
    (
        "ignore_startup_parameters = options, extra_float_digits",
        "listen.ignore_startup_parameters",
        ("options", "extra_float_digits"),
    ),
    ("application_name_add_host = 1", "listen.application_name_add_host", True),
    ("max_prepared_statements = 0", "limits.max_prepared_statements", 0),
    ("auth_type = plain", "auth.method", "password"),
    ("auth_type = any", "auth.method", "any"),
    ("auth_type = trust", "auth.method", "trust"),
    ("auth_type = scram-sha-256", "auth.method", "scram-sha-256"),
    ("auth_type = hba\nauth_hba_file = {folder}/file", "auth.hba_file", FILE),
    (
        "auth_type = hba\nauth_hba_file = {folder}/file\nauth_ident_file = {folder}/file",
        "auth.ident_file",
        Path("{folder}/file"),
    ),
    ("auth_file = {folder}/userlist.txt", "auth.userlist_file", Path("{folder}/userlist.txt")),
    ("auth_user = asker", "auth.query_user", "asker"),
    ("auth_user = asker\nauth_query = SELECT $1", "auth.query", "SELECT $1"),
    ("auth_user = asker", "auth.query_ttl", 0.0),
    ("auth_user = asker\nauth_dbname = users", "clusters.main.query_database", "users"),
    ("auth_user = asker", "clusters.main.monitor.user", "asker"),
    ("log_connections = 0", "log.connections", False),
    ("log_disconnections = 0", "log.disconnections", False),
    ("log_pooler_errors = 0", "log.refusals", False),
    ("verbose = 2", "log.level", "debug"),
    ("admin_users = ann, bob\nauth_user = asker", "auth.admins", ("ann", "bob")),
    ("stats_users = grafana\nauth_user = asker", "auth.stats", ("grafana",)),
    ("server_check_delay = 10", "limits.server_check_delay", 10.0),
    ("server_check_query = <empty>", "limits.server_check_query", ";"),
    ("server_check_query = select 1", "limits.server_check_query", "select 1"),
    ("server_check_query =", "limits.server_check_query", ""),
    ("server_lifetime = 0", "limits.server_lifetime", 0.0),
    ("server_idle_timeout = 61", "limits.server_idle_timeout", 61.0),
    ("server_connect_timeout = 3", "limits.server_connect_timeout", 3.0),
    ("server_login_retry = 2", "limits.server_login_retry", 2.0),
    ("client_login_timeout = 9", "limits.client_login_timeout", 9.0),
    ("query_wait_notify = 0", "limits.query_wait_notify", 0.0),
    ("query_timeout = 5", "limits.query_timeout", 5.0),
    ("query_wait_timeout = 0", "limits.query_wait_timeout", 0.0),
    ("cancel_wait_timeout = 4", "limits.cancel_wait_timeout", 4.0),
    ("client_idle_timeout = 600", "limits.client_idle_timeout", 600.0),
    ("idle_transaction_timeout = 30", "limits.idle_transaction_timeout", 30.0),
    ("transaction_timeout = 31", "limits.transaction_timeout", 31.0),
    ("listen_backlog = 4096", "listen.backlog", 4096),
    ("so_reuseport = 1", "listen.so_reuseport", True),
    ("tcp_keepalive = 0", "listen.tcp_keepalive", False),
    ("tcp_keepcnt = 5", "listen.tcp_keepcnt", 5),
    ("tcp_keepidle = 60", "listen.tcp_keepidle", 60.0),
    ("tcp_keepintvl = 10", "listen.tcp_keepintvl", 10.0),
    ("tcp_user_timeout = 30000", "listen.tcp_user_timeout", 30.0),
    ("client_tls_sslmode = disable", "listen.tls.mode", "disable"),
    ("client_tls_key_file = {folder}/file", "listen.tls.key", FILE),
    ("client_tls_cert_file = {folder}/file", "listen.tls.cert", FILE),
    ("client_tls_ca_file = {folder}/file", "listen.tls.ca", FILE),
    ("client_tls_protocols = tlsv1.3", "listen.tls.min_version", "TLSv1.3"),
    ("client_tls_ciphers = HIGH:!aNULL", "listen.tls.ciphers", "HIGH:!aNULL"),
    ("client_tls_ciphers = fast", "listen.tls.ciphers", None),
    ("server_tls_sslmode = require", "clusters.main.server.tls.mode", "require"),
    *(
        (f"server_tls_{key}_file = {{folder}}/file", f"clusters.main.server.tls.{key}", FILE)
        for key in ("key", "cert", "ca")
    ),
    ("server_tls_protocols = secure", "clusters.main.server.tls.min_version", "TLSv1.2"),
    ("server_tls_ciphers = AES256-SHA", "clusters.main.server.tls.ciphers", "AES256-SHA"),
    (
        'auth_type = ldap\nauth_ldap_options = ldapserver="h" ldapprefix="cn=" ldapsuffix=",dc=x"',
        "auth.ldap.ldapprefix",
        "cn=",
    ),
    ("auth_type = md5", "log.format", "pgbouncer"),
]

# A connection string -> what it comes to.
DATABASE_KEYS = [
    ("host=h dbname=other", "databases.shop.dbname", "other"),
    ("host=h port=5433", "clusters.main.nodes.0.port", 5433),
    ("host=h1,h2", "clusters.main.nodes.1.host", "h2"),
    ("host=h1", "clusters.main.serve_from", "any"),
    ("host=h1,h2 load_balance_hosts=disable", "clusters.main.serve_from", "first"),
    ("host=h1,h2 target_session_attrs=primary", "clusters.main.serve_from", "primary"),
    ("host=h1,h2 target_session_attrs=standby", "routes.0.to", "replica"),
    ("port=5433", "clusters.main.nodes.0.host", "/tmp"),
    ("host=h user=u password='it''s $$ {x}'", "databases.shop.server.user", "u"),
    ("host=h user=u password='it''s $$ ${x}'", "databases.shop.server.password", "it's $$ ${x}"),
    ("host=h user=u password=p", "clusters.main.monitor.password", "p"),
    ("host=h auth_user=asker", "clusters.main.query_user", "asker"),
    ("host=h auth_user=a auth_query='SELECT 1, $1'", "clusters.main.query", "SELECT 1, $1"),
    ("host=h auth_user=a auth_dbname=users", "clusters.main.query_database", "users"),
    ("host=h pool_size=7", "databases.shop.pool_size", 7),
    ("host=h min_pool_size=2", "databases.shop.min_pool_size", 2),
    ("host=h reserve_pool=3", "databases.shop.reserve_pool_size", 3),
    ("host=h reserve_pool_size=4", "databases.shop.reserve_pool_size", 4),
    ("host=h connect_query='SET x.y = 1'", "databases.shop.connect_query", "SET x.y = 1"),
    ("host=h pool_mode=statement", "databases.shop.pool_mode", "statement"),
    ("host=h query_wait_timeout=3", "databases.shop.query_wait_timeout", 3.0),
    ("host=h query_wait_timeout=-1", "databases.shop.query_wait_timeout", None),
    ("host=h pool_size=-1", "databases.shop.pool_size", None),
    ("host=h reserve_pool_size=-1", "databases.shop.reserve_pool_size", None),
    ("host=h max_db_connections=-1", "databases.shop.max_db_connections", None),
    ("host=h max_db_connections=8", "databases.shop.max_db_connections", 8),
    ("host=h max_db_client_connections=9", "databases.shop.max_db_client_connections", 9),
    ("host=h server_lifetime=10", "databases.shop.server_lifetime", 10.0),
    ("host=h client_encoding=LATIN1", "databases.shop.server_settings.client_encoding", "LATIN1"),
    ("host=h datestyle=ISO", "databases.shop.server_settings.datestyle", "ISO"),
    ("host=h timezone=UTC", "databases.shop.server_settings.timezone", "UTC"),
    ("host=h application_name=a", "databases.shop.server_settings.application_name", "a"),
]
USER_KEYS = [
    ("pool_size=5", "pool_size", 5),
    ("pool_size=-1", "pool_size", None),
    ("reserve_pool_size=6", "reserve_pool_size", 6),
    ("pool_mode=session", "pool_mode", "session"),
    ("max_user_connections=7", "max_user_connections", 7),
    ("max_user_client_connections=8", "max_user_client_connections", 8),
    ("query_timeout=9", "query_timeout", 9.0),
    ("query_wait_timeout=10", "query_wait_timeout", 10.0),
    ("idle_transaction_timeout=11", "idle_transaction_timeout", 11.0),
    ("transaction_timeout=12", "transaction_timeout", 12.0),
    ("client_idle_timeout=13", "client_idle_timeout", 13.0),
]

# Keys that have no place here, set to something that would matter in PgBouncer.
LOST = {
    "unix_socket_dir": "@abstract",
    "server_round_robin": "1",
    "peer_id": "1",
    "disable_pqexec": "1",
    "conffile": "/etc/other.ini",
    "stats_period": "10",
    "scram_iterations": "10000",
    "auth_type": "any",
    "auth_hba_file": "/etc/hba",
    "auth_ident_file": "/etc/ident",
    "auth_query": "SELECT 1",
    "syslog": "1",
    "syslog_ident": "pooler",
    "syslog_facility": "local1",
    "log_stats": "1",
    "server_reset_query": "SELECT reset()",
    "server_reset_query_always": "1",
    "server_fast_close": "1",
    "autodb_idle_timeout": "60",
    "pool_idle_timeout": "60",
    "dns_max_ttl": "60",
    "dns_nxdomain_ttl": "60",
    "dns_zone_check_period": "60",
    "resolv_conf": "/etc/resolv.conf",
    "login_notify_message": "hello",
    "client_tls_protocols": "all",
    "client_tls13_ciphers": "TLS_AES_128_GCM_SHA256",
    "client_tls_ecdhcurve": "secp384r1",
    "client_tls_dheparams": "legacy",
    "server_tls_protocols": "tlsv1.1,tlsv1.2",
    "server_tls13_ciphers": "TLS_AES_128_GCM_SHA256",
    "suspend_timeout": "1",
    "pkt_buf": "16384",
    "max_packet_size": "1000",
    "sbuf_loopcnt": "1",
    "tcp_defer_accept": "0",
    "tcp_socket_buffer": "1000",
}
# Known, and neither carried nor missed: what they ask for is done anyway, or by others.
DONE_ANYWAY = {"track_extra_parameters", "service_name", "job_name"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "userlist.txt").write_text('"ann" "secret"\n"asker" "other"\n')
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[[str], Config]:
    def read_text(text: str) -> Config:
        path = folder / "p.ini"
        path.write_text(text.replace("{folder}", str(folder)))
        return load(path, {})

    return read_text


@pytest.fixture
def wrong(read: Callable[[str], Config], folder: Path) -> Callable[[str], list[str]]:
    def lines(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]

    return lines


def at(config: Config, path: str) -> Any:
    """What stands at `clusters.main.nodes.0.port`."""
    here: Any = config
    for part in path.split("."):
        if isinstance(here, tuple):
            here = here[int(part)]
        else:
            here = here[part] if isinstance(here, dict) else getattr(here, part)
    return here


@pytest.mark.parametrize(("line", "path", "value"), KEYS)
def test_key_of_pgbouncer_has_its_place(
    line: str, path: str, value: object, read: Callable[[str], Config], folder: Path
) -> None:
    config = _unjudged(read, f"{SOUND}[pgbouncer]\n{line}\n", folder)
    if isinstance(value, Path):
        value = Path(str(value).replace("{folder}", str(folder)))
    assert at(config, path) == value


def _unjudged(read: Callable[[str], Config], text: str, folder: Path) -> Config:
    """A certificate needs its key, and a key its certificate."""
    for side in ("client", "server"):
        for one, other in (("key", "cert"), ("cert", "key")):
            if f"{side}_tls_{one}_file" in text:
                text += f"{side}_tls_{other}_file = {folder}/file\n"
                text += "client_tls_sslmode = disable\n"
                return read(text)
    return read(text)


@pytest.mark.parametrize(("line", "path", "value"), DATABASE_KEYS)
def test_key_of_a_database_has_its_place(
    line: str, path: str, value: object, read: Callable[[str], Config]
) -> None:
    assert at(read(f"[databases]\nshop = {line}\n"), path) == value


@pytest.mark.parametrize(("line", "key", "value"), USER_KEYS)
def test_key_of_a_user_has_its_place(
    line: str, key: str, value: object, read: Callable[[str], Config]
) -> None:
    config = read(f"{SOUND}[users]\nann = {line}\n")
    assert getattr(config.auth.users["ann"], key) == value


@pytest.mark.parametrize("name", sorted(LOST))
def test_what_is_not_carried_is_one_line(name: str, read: Callable[[str], Config]) -> None:
    config = read(f"[pgbouncer]\n{name} = {LOST[name]}\n[databases]\nshop = host=h\n")
    about = [each for each in config.warnings if f": {name}: " in each]
    assert len(about) == 1
    assert re.search(r"p\.ini:2: ", about[0])


def test_each_key_of_pgbouncer_is_in_one_of_the_tables_of_this_test() -> None:
    carried = {line.split(" =")[0] for lines, _, _ in KEYS for line in lines.split("\n")}
    assert PGBOUNCER.keys() == carried | LOST.keys() | DONE_ANYWAY
    in_databases = {name for text, _, _ in DATABASE_KEYS for name, _ in read_pairs(text)}
    assert DATABASES.keys() == in_databases
    assert USERS.keys() == {text.partition("=")[0] for text, _, _ in USER_KEYS}


def test_default_is_said_exactly_where_ours_is_another() -> None:
    for name, key in PGBOUNCER.items():
        if key.path is None or key.path[0] == "server_tls":
            continue
        section = section_at(Root, key.path[:-1])
        assert section is not None, name
        field = section.model_fields[str(key.path[-1])]
        written = key.read(key.default)
        assert written is None or not isinstance(written, Path)
        ours = section.model_validate({key.path[-1]: written})
        is_same = getattr(ours, str(key.path[-1])) == field.get_default(call_default_factory=True)
        assert is_same != key.is_said, name


def test_empty_section_has_pgbouncers_defaults(read: Callable[[str], Config]) -> None:
    config = read(SOUND)
    listen, limits = config.listen, config.limits
    assert (listen.host, listen.port, listen.max_client_conn) == ("", 6432, 100)
    assert str(listen.unix_socket_dir) == "/tmp"
    assert (limits.pool_mode, limits.pool_size, limits.server_login_retry) == ("session", 20, 15.0)
    assert (config.auth.method, config.http) == ("md5", None)


def test_databases_on_the_same_servers_share_a_cluster(read: Callable[[str], Config]) -> None:
    config = read("[databases]\na = host=h\nb = host=h dbname=x\nc = host=g\n* = host=h port=1\n")
    assert {name: each.cluster for name, each in config.databases.items()} == {
        "a": "h:5432",
        "b": "h:5432",
        "c": "g:5432",
        "*": "h:1",
    }


def test_password_of_the_asking_user_is_taken_from_the_list(read: Callable[[str], Config]) -> None:
    config = read(f"{SOUND}[pgbouncer]\nauth_user = asker\nauth_file = {{folder}}/userlist.txt\n")
    assert config.monitor_login("main") == ("asker", "other")
    assert config.auth.query_login(config.clusters["main"]) == ("asker", "other")


def test_name_in_quotes_may_hold_anything(read: Callable[[str], Config]) -> None:
    config = read('[databases]\n"my ""own"" db" = host=h\n')
    assert list(config.databases) == ['my "own" db']


def test_last_of_two_counts(read: Callable[[str], Config]) -> None:
    config = read("[pgbouncer]\nlisten_port=1\nlisten_port=2\n[databases]\na=host=g\na=host=h\n")
    assert (config.listen.port, config.clusters["main"].nodes[0].host) == (2, "h")


def test_comment_is_a_whole_line(read: Callable[[str], Config]) -> None:
    text = "; one\n# two\n[databases]\nshop = host=h password='a;b#c'\n\t; three\n"
    login = read(text).databases["shop"].server
    assert login is not None
    assert login.password == "a;b#c"


def test_included_files_are_read_where_they_are_named(
    read: Callable[[str], Config], folder: Path
) -> None:
    (folder / "more.ini").write_text("listen_port = 7\n[databases]\nshop = host=h\n")
    assert read(f"[pgbouncer]\n%include {folder}/more.ini\nx = host=h\n").listen.port == 7


def test_included_files_may_include_others(read: Callable[[str], Config], folder: Path) -> None:
    for level in range(10):
        (folder / f"{level}.ini").write_text(f"%include {folder}/{level + 1}.ini\n")
    (folder / "9.ini").write_text("listen_port = 9\n")
    text = f"[pgbouncer]\n%include {folder}/0.ini\n[databases]\nshop = host=h\n"
    assert read(text).listen.port == 9


def test_file_that_is_included_is_sought_from_the_working_directory(
    read: Callable[[str], Config], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "more.ini").write_text("%include sub/port.ini\n")
    (folder / "sub" / "port.ini").write_text("listen_port = 8\n")
    (folder / "port.ini").write_text("listen_port = 7\n")
    monkeypatch.chdir(folder)
    text = "[pgbouncer]\n%include sub/more.ini\n[databases]\nshop = host=h\n"
    assert read(text).listen.port == 8


@pytest.mark.parametrize("host", ["@server", "10.0.0.1, @server"])
def test_host_in_the_abstract_namespace_is_one_line(
    host: str, read: Callable[[str], Config]
) -> None:
    config = read(f"[databases]\nshop = host='{host}'\n")
    assert [line for line in config.warnings if ": databases.shop.host: " in line] != []


def test_file_beside_the_ini_is_found_where_the_working_directory_has_none(
    read: Callable[[str], Config], folder: Path
) -> None:
    config = read(f"{SOUND}[pgbouncer]\nauth_file = userlist.txt\n")
    assert config.auth.userlist_file == folder / "userlist.txt"


# What stands in the file -> what is said, without the folder.
MISTAKES = [
    ("wat = 1\n" + SOUND, ["p.ini:1: wat: stands before the first section"]),
    (
        "[databases]\nshop = host=h port=x\n",
        ["p.ini:2: databases.shop.port: expected a whole number, got 'x'"],
    ),
    (
        "[databases]\nshop = host=h pool_size=0\n",
        ["p.ini:2: databases.shop.pool_size: expected 1 or more, got '0'"],
    ),
    (
        "[databases]\nshop = hots=h\n",
        ["p.ini:2: databases.shop.hots: unknown key; did you mean 'host'?"],
    ),
    (
        "[databases]\nshop = host=h password='secret\n",
        [
            "p.ini:2: databases.shop: not a connection string; write key=value, separated by "
            "spaces, with single quotes around a value that has spaces"
        ],
    ),
    (
        "[databases]\npgbouncer = host=h\n",
        ["p.ini:2: databases.pgbouncer: this name is the admin console's; choose another"],
    ),
    (
        SOUND + "[pgbouncer]\nmax_client_con = 5\nlisten_port = 70000\n",
        [
            "p.ini:4: max_client_con: unknown key; did you mean 'max_client_conn'?",
            "p.ini:5: listen_port: expected 65535 or less, got '70000'",
        ],
    ),
    (
        SOUND + "[pgbouncer]\npool_mode = transactional\n",
        [
            "p.ini:4: pool_mode: expected one of session, transaction, statement, got "
            "'transactional'"
        ],
    ),
    (
        SOUND + "[pgbouncer]\nserver_lifetime = 1h\nlog_connections = maybe\n",
        [
            "p.ini:4: server_lifetime: expected a number of seconds, got '1h'",
            "p.ini:5: log_connections: expected 0 or 1, got 'maybe'",
        ],
    ),
    (
        SOUND + "[pgbouncer]\nclient_tls_sslmode = require\n",
        [
            "p.ini:4: client_tls_sslmode: require needs a certificate; name its files under cert "
            "and key"
        ],
    ),
    (SOUND + "[pgbouncer]\nlisten_port\n", ["p.ini:4: (line): not understood; write key = value"]),
    (
        SOUND + "[servers]\nx = 1\n",
        [
            "p.ini:4: x: unknown section [servers]; known are [pgbouncer], [databases], [users], "
            "[peers]"
        ],
    ),
    (
        SOUND + "[users]\nann = pool_mode=x\n",
        ["p.ini:4: users.ann.pool_mode: expected one of session, transaction, statement, got 'x'"],
    ),
    (
        SOUND + "%include {folder}/none.ini\n",
        [
            "p.ini:3: %include: none.ini cannot be read (No such file or directory); name a file "
            "that can"
        ],
    ),
    (
        SOUND + "[pgbouncer]\nauth_file = {folder}/none.txt\n",
        [
            "p.ini:4: auth_file: none.txt cannot be read (No such file or directory); name a file "
            "that can"
        ],
    ),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_mistake_is_told_by_the_name_it_has_in_the_ini(
    text: str, said: list[str], wrong: Callable[[str], list[str]]
) -> None:
    assert wrong(text) == said


def test_file_that_includes_itself_ends(wrong: Callable[[str], list[str]], folder: Path) -> None:
    assert wrong(SOUND + "%include {folder}/p.ini\n") == [
        "p.ini:3: %include: nested too deeply; a file includes itself"
    ]


WHOLE = """\
[databases]
shop = host=10.0.0.1 dbname=shop_1 pool_size=40 user=app password='$$ ${HOME} it''s $' timezone=UTC
ro = host=10.0.0.2,10.0.0.3 pool_mode=statement connect_query='select 1'
first = host=10.0.0.2,10.0.0.3 load_balance_hosts=disable
standby = host=10.0.0.2,10.0.0.3 target_session_attrs=standby
other = host=10.0.0.1 auth_user=special
"odd: name" = host=/var/run/postgresql
* = host=10.0.0.1
[users]
ann = pool_mode=session max_user_connections=5
"no: 1" = query_timeout=1.5
[peers]
1 = host=/tmp/one
[pgbouncer]
listen_addr = *
auth_type = scram-sha-256
auth_file = userlist.txt
auth_user = asker
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename=$1
admin_users = ann
ignore_startup_parameters = extra_float_digits
server_tls_sslmode = require
server_reset_query = SELECT 1
unix_socket_dir =
query_wait_timeout = 30
tcp_user_timeout = 1500
server_check_query = select 1
"""


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        WHOLE,
        *(f"{SOUND}[pgbouncer]\n{line}\n" for line, _, _ in KEYS if "tls_" not in line),
        *(f"[databases]\nshop = {line}\n" for line, _, _ in DATABASE_KEYS),
        *(f"{SOUND}[users]\nann = {line}\n" for line, _, _ in USER_KEYS),
    ],
)
def test_converted_file_is_the_same_configuration(
    text: str, read: Callable[[str], Config], folder: Path
) -> None:
    config = read(text)
    written, _ = convert(folder / "p.ini", {})
    again = parse(written, {"HOME": "wrong"}, file="p.yaml")
    assert again.noting((), Origin()) == config.noting((), Origin())
    assert list(again.databases) == list(config.databases)


def test_converted_file_names_each_key_it_could_not_carry(
    read: Callable[[str], Config], folder: Path
) -> None:
    read(WHOLE)
    written, warnings = convert(folder / "p.ini", {})
    lost = [line.split(": ")[1] for line in written.splitlines() if line.startswith("#   ")]
    assert lost == ["server_reset_query", "peers.1"]
    assert len(warnings) == 2


def test_example_of_the_distribution_is_read(folder: Path) -> None:
    example = Path("/usr/share/doc/pgbouncer/examples/pgbouncer.ini")
    if not example.is_file():
        pytest.skip("pgbouncer is not installed")
    # With every key it shows, and the database that it shows first.
    text = re.sub(r"^;(\w+ = )", r"\1", example.read_text(), flags=re.MULTILINE)
    text = text.replace("[databases]", "[databases]\nshop = host=h", 1)
    text = re.sub(r"^auth_file.*$", f"auth_file = {folder}/userlist.txt", text, flags=re.MULTILINE)
    text = re.sub(r"^(client|server)_tls_\w+_file.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(unix_socket_dir|auth_hba_file|logfile|pidfile).*$", "", text, flags=re.M)
    path = folder / "example.ini"
    path.write_text(text)
    config = load(path, {})
    assert config.databases["bardb"].dbname == "bazdb"
