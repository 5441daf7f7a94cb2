"""`${NAME}`: what is expanded, and what stays as it is."""

from collections.abc import Callable

import pytest

from proxy.config import Config

ENVIRON = {"PW": "s3cret", "EMPTY": "", "ODD": 'a: {b} #c "d"\n*e', "PORT": "7000", "OFF": "off"}

# What stands behind `password:` -> the password.
PASSWORDS = [
    ("${PW}", "s3cret"),
    ("'${PW}'", "s3cret"),
    ('"${PW}"', "s3cret"),
    ("a${PW}b", "as3cretb"),
    ("${PW}${PW}", "s3crets3cret"),
    ("${NONE:-other}", "other"),
    ("${EMPTY:-other}", "other"),
    ("${EMPTY}", ""),
    ("${NONE:-}", ""),
    ("${NONE:-a: b, [c]}", "a: b, [c]"),
    ("${PW:-other}", "s3cret"),
    ("${ODD}", ENVIRON["ODD"]),
    ("a$$b", "a$b"),
    ("a$b", "a$b"),
    ("'$${PW}'", "${PW}"),
    ("'$$${PW}'", "$s3cret"),
    ("12345", "12345"),
    ("0777", "0777"),
    ("1_000", "1_000"),
    ("on", "on"),
    ("1:30", "1:30"),
    ("2024-01-01", "2024-01-01"),
    ("'~'", "~"),
]


@pytest.mark.parametrize(("written", "password"), PASSWORDS)
def test_password_is_what_was_meant(
    written: str, password: str, read: Callable[..., Config], sound: str
) -> None:
    text = sound.replace("password: secret", f"password: {written}")
    assert read(text, ENVIRON).auth.users["app"].password == password


def test_references_work_within_braces_and_brackets(read: Callable[..., Config]) -> None:
    text = (
        "clusters: {main: {nodes: [{host: ${HOST:-h}, port: ${PORT}, roles: [${ROLE:-a}]}]}}\n"
        "databases: {d: {cluster: main}}\n"
    )
    node = read(text, ENVIRON).clusters["main"].nodes[0]
    assert (node.host, node.port, node.roles) == ("h", 7000, ("a",))


def test_comments_and_keys_are_not_expanded(read: Callable[..., Config], sound: str) -> None:
    text = "# ${NONE}\n" + sound.replace("app:", "${NONE}:")
    assert list(read(text).auth.users) == ["${NONE}"]


def test_word_off_is_a_mode_and_not_false(read: Callable[..., Config], sound: str) -> None:
    text = sound.replace("monitor:", "failover: {mode: off}, monitor:")
    assert read(text).clusters["main"].failover.mode == "off"


def test_value_of_a_variable_is_quoted_by_its_name(
    wrong: Callable[..., list[str]], sound: str
) -> None:
    said = wrong(sound + "listen: {port: ${PW}}\n", ENVIRON)
    assert said == ["f.yaml:4: listen.port: expected a whole number, got '${PW}'"]


def test_merge_key_adds_what_is_not_there(read: Callable[..., Config]) -> None:
    text = (
        "clusters:\n  a: &a\n    nodes: [{host: h}]\n    consistency: none\n"
        "  b: {<<: *a, consistency: global}\ndatabases: {d: {cluster: b}}\n"
    )
    cluster = read(text).clusters["b"]
    assert (cluster.nodes[0].host, cluster.consistency) == ("h", "global")


def test_sections_without_keys_have_their_defaults(read: Callable[..., Config], sound: str) -> None:
    empty = "limits:\nlisten:\n  tls:\nlog: {level: }\nroutes:\nhttp: {}\n"
    config = read(sound + empty)
    assert (config.limits.pool_size, config.log.level, config.listen.tls.mode) == (
        20,
        "info",
        "disable",
    )
