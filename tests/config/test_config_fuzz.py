"""Whatever a file says, reading it ends in a configuration or in a ConfigError."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import ConfigError, parse

WHOLE = """\
listen: {host: h, port: 1, tls: {mode: disable}}
http: {port: 2}
log: {level: info}
auth: {users: {app: {password: x, pool_size: 3}}, admins: [app]}
clusters:
  main: &main
    nodes: [{name: a, host: h, roles: [r]}, {host: i, port: 3}]
    server: {user: u, password: ${PW}, tls: {mode: prefer}}
    monitor: {interval: 1s}
    replicas: {max_lag: 1s, max_lag_bytes: 1KiB}
  other: {<<: *main, consistency: none}
databases: {d: {cluster: main, server: {user: x}}, "*": {cluster: other}}
limits: {query_timeout: 5m}
routes: [{match: {user: app}, to: r}, {match: {query: x}, to: replica}]
"""

PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            ": ",
            "- ",
            "\n",
            "\n  ",
            "~",
            "*main",
            "&a",
            "<<: *main",
            "${PW}",
            "${NONE}",
            "'",
            '"',
            "#",
            "!",
            "main",
            "0",
            "-1",
            "nodes",
            "null",
            "{}",
            "[]",
            "\t",
        ]
    ),
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), PIECES), min_size=1, max_size=4
)


def survives(text: str) -> None:
    """Read, ask for a policy, and accept a ConfigError with a place in every line."""
    try:
        config = parse(text, {"PW": "hunter2"}, file="f.yaml")
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.file == "f.yaml"
            assert 1 <= problem.line <= len(text) + 1
    else:
        config.policy("d", "app")


@settings(deadline=None)
@given(EDITS)
def test_file_with_any_edit_is_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    text = WHOLE
    for start, removed, piece in edits:
        text = text[:start] + piece + text[start + removed :]
    survives(text)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    survives(text)
