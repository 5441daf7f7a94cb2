"""A small sound configuration, and a way to read a text as the program would."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy.config import Config, ConfigError, parse

SOUND = """\
auth: {users: {app: {password: secret}}}
clusters: {main: {nodes: [{name: db1, host: h1}], monitor: {user: m}}}
databases: {"*": {cluster: main}}
"""


@pytest.fixture
def sound() -> str:
    """Three lines that are a whole configuration, and give no warning."""
    return SOUND


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Config]:
    """Read a text as the file `f.yaml` in a temporary folder."""

    def read_text(text: str, environ: Mapping[str, str] | None = None) -> Config:
        return parse(text, environ or {}, file="f.yaml", folder=tmp_path)

    return read_text


@pytest.fixture
def wrong(read: Callable[..., Config]) -> Callable[..., list[str]]:
    """The lines of the ConfigError that reading a text ends in."""

    def lines(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, environ)
        return str(caught.value).splitlines()

    return lines
