"""Passwords in their places: the one before, files read again, commands."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Config, PasswordSource, load, reload, reload_secrets, secret_files

NODES = "nodes: [{host: h}]"
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$" + "A" * 43 + "=:" + "B" * 43 + "="
OTHER_SALT = VERIFIER.replace("c2FsdA==", "cGVwcGVy")


def with_user(user: str) -> str:
    return f"""\
auth: {{users: {{app: {user}}}}}
clusters: {{main: {{{NODES}, monitor: {{user: m}}}}}}
databases: {{"*": {{cluster: main}}}}
"""


def with_logins(cluster: str, database: str = "{}") -> str:
    return f"""\
auth: {{users: {{app: {{password: x}}}}}}
clusters: {{main: {{{NODES}, monitor: {{user: m}}, server: {cluster}}}}}
databases: {{"*": {{cluster: main, server: {database}}}}}
"""


FORM = (
    "f.yaml:1: auth.users.app.old_password: not of the form that password has; write both in "
    "plain, both as md5, or both as verifiers with the same salt and iterations"
)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (f"{{password: x, old_password: {'md5' + 'a' * 32}}}", FORM),
        (f"{{password: x, old_password: {VERIFIER}}}", FORM),
        (f"{{password: {VERIFIER}, old_password: {OTHER_SALT}}}", FORM),
        (
            "{old_password: x}",
            "f.yaml:1: auth.users.app.old_password: the one before, but there is no password; "
            "write the present one under password",
        ),
    ],
)
def test_an_old_password_that_cannot_stand_beside_the_new_one_is_refused(
    wrong: Callable[..., list[str]], user: str, said: str
) -> None:
    assert wrong(with_user(user)) == [said]


@pytest.mark.parametrize(
    ("password", "old"),
    [("x", "y"), ("md5" + "a" * 32, "md5" + "b" * 32), (VERIFIER, VERIFIER.replace("BB", "CC"))],
)
def test_two_of_the_same_form_are_accepted(
    read: Callable[..., Config], password: str, old: str
) -> None:
    user = read(with_user(f"{{password: '{password}', old_password: '{old}'}}")).auth.users["app"]
    assert (user.password, user.old_password) == (password, old)


@pytest.mark.parametrize(
    ("cluster", "database", "said"),
    [
        (
            "{user: u, password: x, password_command: [print]}",
            "{}",
            "f.yaml:2: clusters.main.server.password_command: given together with a password; keep "
            "one of the two",
        ),
        (
            "{password_command: [print]}",
            "{}",
            "f.yaml:2: clusters.main.server.password_command: a password, but for nobody; write "
            "the user under user",
        ),
        (
            "{}",
            "{password_command: [print]}",
            "f.yaml:3: databases.*.server.password_command: a password, but for nobody; write "
            "the user under user",
        ),
    ],
)
def test_a_command_without_a_use_is_refused(
    wrong: Callable[..., list[str]], cluster: str, database: str, said: str
) -> None:
    assert wrong(with_logins(cluster, database)) == [said]


PRINT = PasswordSource(None, ("print", "it"), 600.0)


@pytest.mark.parametrize(
    ("cluster", "database", "source"),
    [
        ("{user: u, password_command: [print, it]}", "{}", PRINT),
        ("{user: u, password_command: [print, it]}", "{user: u}", PRINT),
        ("{user: u, password_command: [print, it]}", "{user: v}", None),
        ("{user: u, password_command: [print, it]}", "{password: x}", None),
        ("{user: u, password: x}", "{password_command: [print, it]}", PRINT),
        (
            "{user: u, password: x}",
            "{user: v, password_command: [print], password_ttl: 5m}",
            PasswordSource(None, ("print",), 300.0),
        ),
        ("{user: u, password: x}", "{}", None),
    ],
)
def test_a_password_is_asked_for_where_the_user_belongs(
    read: Callable[..., Config], cluster: str, database: str, source: PasswordSource | None
) -> None:
    policy = read(with_logins(cluster, database)).policy("any", "app")
    assert policy is not None
    assert policy.server_password_source == source


def test_only_secrets_are_read_again(tmp_path: Path) -> None:
    for name in ("new", "old", "server", "list"):
        (tmp_path / name).write_text(f"{name} of yesterday\n")
    (tmp_path / "list").write_text('"listed" "of yesterday"')
    file = tmp_path / "pgweir.yaml"
    file.write_text(f"""\
auth:
  users: {{app: {{password_file: new, old_password_file: old}}}}
  userlist_file: list
clusters: {{main: {{{NODES}, server: {{user: u, password_file: server}}}}}}
databases: {{"*": {{cluster: main}}}}
""")
    before = load(file, {}, pool_size=3)
    assert {path.name for path in secret_files(before)} == {"new", "old", "server", "list"}
    assert reload_secrets(before, {}) == before
    (tmp_path / "new").write_text("new of today")
    (tmp_path / "server").write_text("server of today")
    (tmp_path / "list").write_text('"hired" "today"')
    file.write_text("half an edit")
    after = reload_secrets(before, {})
    users = after.auth.users
    assert set(users) == {"app", "hired"}
    assert (users["app"].password, users["app"].old_password) == (
        "new of today",
        "old of yesterday",
    )
    assert after.clusters["main"].server.password == "server of today"
    assert after.limits == before.limits
    assert "today" not in repr(after) and "yesterday" not in repr(after.origin)
    file.write_text(before.origin.text)
    assert reload(after, {}) == after
