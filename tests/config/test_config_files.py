"""What is read from disk: the file, the secrets it names, the certificates it names."""

from pathlib import Path

import pytest

from proxy.config import Config, ConfigError, load, reload

SOUND = """\
clusters: {main: {nodes: [{host: h1}], monitor: {user: m}}}
databases: {"*": {cluster: main}}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "pgweir.yaml"
    file.write_text(SOUND + text)
    return file


def refusal(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    return str(caught.value).splitlines()


def users_of(config: Config) -> dict[str, str | None]:
    return {name: user.password for name, user in config.auth.users.items()}


def test_missing_file_is_told_in_the_same_form(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.yaml"
    assert refusal(file) == [
        f"{file}:1: (file): cannot be read (No such file or directory); name a YAML file with -c"
    ]


def test_folder_in_place_of_a_file_is_told_in_the_same_form(tmp_path: Path) -> None:
    assert refusal(tmp_path) == [
        f"{tmp_path}:1: (file): cannot be read (Is a directory); name a YAML file with -c"
    ]


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"log: {}\n# caf\xe9\n")
    assert refusal(file) == [f"{file}:2: (file): not UTF-8; save the file as UTF-8"]


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_text("\ufeff" + SOUND, "utf-8")
    assert load(file, {}).clusters["main"].nodes[0].host == "h1"


def test_password_file_is_read_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\n")
    file = write(tmp_path, "auth: {users: {app: {password_file: secret}}}\n")
    assert users_of(load(file, {})) == {"app": "pass word"}


def test_password_file_serves_server_and_monitor(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("one")
    (tmp_path / "m").write_text("two\r\n")
    file = tmp_path / "pgweir.yaml"
    file.write_text(
        "clusters:\n  main:\n    nodes: [{host: h}]\n    server: {user: s, password_file: s}\n"
        "    monitor: {user: m, password_file: m}\n"
        "databases: {d: {cluster: main, server: {user: d, password_file: m}}}\n"
    )
    config = load(file, {})
    cluster, database = config.clusters["main"], config.databases["d"]
    assert database.server is not None
    passwords = (cluster.server.password, cluster.monitor.password, database.server.password)
    assert passwords == ("one", "two", "two")


def test_missing_password_file_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "auth: {users: {app: {password_file: gone}}}\n")
    assert refusal(file) == [
        f"{file}:3: auth.users.app.password_file: {tmp_path}/gone cannot be read (No such file or "
        "directory); name a file that can"
    ]


def test_password_and_password_file_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    file = write(tmp_path, "auth: {users: {app: {password: y, password_file: secret}}}\n")
    assert refusal(file) == [
        f"{file}:3: auth.users.app.password_file: given together with password; keep one of the two"
    ]


def test_userlist_adds_users_and_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text(
        '; who may come in\n"app" "from the list"\n"ops" "a ""quoted"" one" ignored\n\n'
        '"twice" "first"\n"twice" "last"\n"limited" "x"\n'
    )
    file = write(
        tmp_path,
        "auth:\n  userlist_file: userlist.txt\n  admins: [ops]\n"
        "  users: {app: {password: here}, limited: {pool_size: 3}}\n",
    )
    config = load(file, {})
    expected = {"app": "here", "limited": "x", "ops": 'a "quoted" one', "twice": "last"}
    assert users_of(config) == expected
    assert config.auth.users["limited"].pool_size == 3


def test_broken_line_of_a_userlist_is_told_with_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "users").write_text('"app" "x"\nops hunter2\n"s" "SCRAM-SHA-256$hunter2"\n')
    file = write(tmp_path, "auth: {userlist_file: users}\n")
    assert refusal(file) == [
        f'{tmp_path}/users:2: (user): not an entry; write "name" "password"',
        f"{tmp_path}/users:3: (user): a damaged SCRAM verifier; write SCRAM-SHA-256$iterations:"
        "salt$StoredKey:ServerKey as pg_authid has it",
    ]


def test_missing_userlist_is_told_and_its_admins_are_not(tmp_path: Path) -> None:
    file = write(tmp_path, "auth: {userlist_file: gone, admins: [ops]}\n")
    assert refusal(file) == [
        f"{file}:3: auth.userlist_file: {tmp_path}/gone cannot be read (No such file or "
        "directory); name a file that can"
    ]


def test_certificate_without_its_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "server.crt").touch()
    file = write(tmp_path, "listen: {tls: {mode: require, cert: server.crt}}\n")
    assert refusal(file) == [
        f"{file}:3: listen.tls.cert: a certificate without its key; name the key's file"
    ]


def test_key_without_its_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "k").touch()
    file = tmp_path / "pgweir.yaml"
    file.write_text(
        "clusters:\n  main:\n    nodes: [{host: h}]\n    server: {tls: {key: k}}\n"
        "databases: {d: {cluster: main}}\n"
    )
    assert refusal(file) == [
        f"{file}:4: clusters.main.server.tls.key: a key without its certificate; name the "
        "certificate's file under cert"
    ]


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_direct_tls_where_there_may_be_none_is_told(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "pgweir.yaml"
    file.write_text(
        f"clusters:\n  main:\n    nodes: [{{host: h}}]\n    server: {{tls: {{mode: {mode}, "
        "negotiation: direct}}\ndatabases: {d: {cluster: main}}\n"
    )
    assert refusal(file) == [
        f"{file}:4: clusters.main.server.tls.negotiation: direct TLS has no way back, and mode is "
        f"{mode}; write mode: require, verify-ca or verify-full"
    ]


def test_certificate_without_a_mode_is_told(tmp_path: Path) -> None:
    for name in ("server.crt", "server.key"):
        (tmp_path / name).touch()
    file = write(tmp_path, "listen: {tls: {cert: server.crt, key: server.key}}\n")
    assert refusal(file) == [
        f"{file}:3: listen.tls.cert: a certificate, but no mode; write mode: allow, prefer or "
        "require"
    ]


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verifying_clients_needs_an_authority(tmp_path: Path, mode: str) -> None:
    for name in ("server.crt", "server.key"):
        (tmp_path / name).touch()
    file = write(tmp_path, f"listen: {{tls: {{mode: {mode}, cert: server.crt, key: server.key}}}}")
    assert refusal(file) == [
        f"{file}:3: listen.tls.mode: {mode} needs the authorities that sign clients' certificates; "
        "name their file under ca"
    ]


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    file = write(
        tmp_path, "listen:\n  unix_socket_dir: run\n  tls: {mode: allow, cert: c, key: k}\n"
    )
    assert refusal(file) == [
        f"{file}:4: listen.unix_socket_dir: {tmp_path}/run is no folder; make it, or name another",
        f"{file}:5: listen.tls.cert: there is no file {tmp_path}/c; name one that exists",
        f"{file}:5: listen.tls.key: there is no file {tmp_path}/k; name one that exists",
    ]


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = load(write(tmp_path, "listen: {unix_socket_dir: run}\n"), {})
    assert config.listen.unix_socket_dir == tmp_path / "run"


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "listen: {host: 10.0.0.1, port: 1, max_client_conn: 7}\n")
    config = load(file, {}, listen="[::1]:5", http="*:0", pool_size=3)
    listen, http = config.listen, config.http
    assert http is not None
    found = (listen.host, listen.port, listen.max_client_conn, http.host, http.port)
    assert found == ("::1", 5, 7, "*", 0)
    assert config.limits.pool_size == 3


def test_reload_reads_the_file_again_and_keeps_the_flags(tmp_path: Path) -> None:
    file = write(tmp_path, "auth: {users: {a: {password: one}}}\n")
    config = load(file, {}, pool_size=3)
    write(tmp_path, "auth: {users: {a: {password: two}}}\n")
    again = reload(config, {})
    assert (users_of(again), again.limits.pool_size) == ({"a": "two"}, 3)


def test_certificates_that_are_no_use_are_warned_of(tmp_path: Path) -> None:
    """And not refused: they may be stand-ins for those of another machine."""
    for name in ("server.crt", "server.key", "ca.crt"):
        (tmp_path / name).write_text("not PEM")
    tls = "mode: verify-ca, cert: server.crt, key: server.key, ca: ca.crt"
    file = write(tmp_path, f"listen: {{tls: {{{tls}}}}}\n")
    cert, ca = load(file, {}).warnings[-2:]
    assert cert.startswith(f"{file}:3: listen.tls.cert: no use with {tmp_path}/server.key (")
    assert ca == (
        f"{file}:3: listen.tls.ca: {tmp_path}/ca.crt holds no certificate; name a PEM file of "
        "authorities"
    )
