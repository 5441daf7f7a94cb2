"""The Dockerfile, without an engine: its rules, and its commands run by hand."""

import fnmatch
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined, in its stage."""

    stage: int
    name: str
    arguments: str


def read_instructions() -> list[Instruction]:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found, stage = [], -1
    for line in joined.splitlines():
        name, _, arguments = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, arguments.strip()))
    return found


INSTRUCTIONS = read_instructions()
LAST = max(each.stage for each in INSTRUCTIONS)


def arguments(name: str, stage: int = LAST) -> list[str]:
    return [each.arguments for each in INSTRUCTIONS if (each.name, each.stage) == (name, stage)]


def test_it_is_built_in_one_stage_and_run_in_another() -> None:
    assert LAST == 1


def test_what_runs_has_no_compiler() -> None:
    assert [line for line in arguments("RUN") if "apt" in line or "gcc" in line] == []


def test_it_runs_as_a_user_that_has_a_number_and_is_not_root() -> None:
    [user] = arguments("USER")
    assert [int(part) > 0 for part in user.split(":")] == [True, True]


def test_nothing_is_changed_after_root_was_left() -> None:
    names = [each.name for each in INSTRUCTIONS if each.stage == LAST]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


def test_it_exposes_clients_port_and_http() -> None:
    assert arguments("EXPOSE") == ["6432 9127"]


def test_bases_have_a_version() -> None:
    defaults = dict(each.arguments.split("=", 1) for each in INSTRUCTIONS if each.name == "ARG")
    bases = [each.arguments.split(" ")[0] for each in INSTRUCTIONS if each.name == "FROM"]
    named = [re.sub(r"\$\{(\w+)\}", lambda found: defaults[found[1]], base) for base in bases]
    assert [re.fullmatch(r"python:3\.\d+-slim-\w+", base) is not None for base in named] == [
        True,
        True,
    ]


def copied() -> list[str]:
    return [source for line in arguments("COPY", 0) for source in line.split()[:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_reaches_the_engine(source: str) -> None:
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert ((ROOT / source).exists(), source.rstrip("/") in let_in) == (True, True)


@pytest.mark.parametrize(
    "secret", [".git/config", "deploy/.env", "proxy/relay/relay.c", ".venv/pyvenv.cfg"]
)
def test_what_is_not_needed_stays_here(secret: str) -> None:
    """The last pattern that matches a path, or a folder above it, decides."""
    kept_out = False
    for pattern in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if not pattern or pattern.startswith("#"):
            continue
        plain = pattern.removeprefix("!").replace("**/", "*")
        above = [secret, *(str(parent) for parent in Path(secret).parents)]
        if any(fnmatch.fnmatchcase(path, plain) for path in above):
            kept_out = not pattern.startswith("!")
    assert kept_out


def test_the_entry_point_receives_signals_itself() -> None:
    """The exec form: a shell in between would keep SIGTERM to itself."""
    [entry] = arguments("ENTRYPOINT")
    assert json.loads(entry)[:2] == ["pgweir", "run"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True)
class Contained:
    """The entry point's process, and the health check for it, on ports of this machine."""

    process: "subprocess.Popen[str]"
    health: list[str]

    def is_healthy(self) -> bool:
        return subprocess.run(self.health, check=False, capture_output=True).returncode == 0


@pytest.fixture
def contained(tmp_path: Path) -> Iterator[Contained]:
    """The image's commands, started by hand, by environment alone. No database answers."""
    ports = {"6432": str(free_port()), "9127": str(free_port())}

    def here(words: list[str]) -> list[str]:
        program = {"pgweir": [sys.executable, "-m", "proxy"], "python": [sys.executable]}[words[0]]
        text = [re.sub("6432|9127", lambda found: ports[found[0]], word) for word in words[1:]]
        return [*program, *text]

    [entry] = arguments("ENTRYPOINT")
    [check] = arguments("HEALTHCHECK")
    process = subprocess.Popen(
        here(json.loads(entry)),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"postgresql://app:secret@127.0.0.1:{free_port()}/app",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Contained(process, here(json.loads(check.partition("CMD ")[2])))
    finally:
        process.kill()
        process.communicate(timeout=10)


def wait_until_healthy(contained: Contained) -> None:
    deadline = time.monotonic() + 20
    while not contained.is_healthy():
        assert contained.process.poll() is None, contained.process.communicate()[1]
        assert time.monotonic() < deadline, "it never became healthy"


def test_it_is_healthy_while_it_serves_even_without_a_database(contained: Contained) -> None:
    wait_until_healthy(contained)


def test_it_is_unhealthy_once_it_has_gone(contained: Contained) -> None:
    wait_until_healthy(contained)
    contained.process.kill()
    contained.process.wait(10)
    assert not contained.is_healthy()


def test_it_ends_by_sigterm_with_success(contained: Contained) -> None:
    wait_until_healthy(contained)
    contained.process.terminate()
    assert contained.process.wait(20) == 0
