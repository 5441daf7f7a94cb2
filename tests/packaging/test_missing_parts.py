"""A machine that cannot build says in one line what it lacks."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make")

needs_make = pytest.mark.skipif(MAKE is None, reason="needs make")


def make_demo(tmp_path: Path, *arguments: str, **environ: str) -> str:
    """Run `make demo` where only a shell and `find` are on the PATH; give all it said."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "find"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    assert MAKE is not None
    done = subprocess.run(
        [MAKE, "demo", f"VENV={tmp_path / 'venv'}", *arguments],
        cwd=ROOT,
        env={"PATH": str(tools), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    return done.stdout


def ask(script: str) -> str:
    """Let a fresh Python that was tampered with by `script` ask what is missing."""
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport machine; print(machine.what_is_missing(True))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@needs_make
def test_make_without_a_compiler_says_so_in_one_line(tmp_path: Path) -> None:
    said = make_demo(tmp_path, f"PYTHON={sys.executable}", CC="no-such-compiler")
    assert [line.partition("*** ")[2] for line in said.splitlines()] == [
        "pgweir: no C compiler found (tried 'no-such-compiler'): on Debian, apt-get install gcc."
        "  Stop."
    ]


@needs_make
def test_make_without_python_says_so_in_one_line(tmp_path: Path) -> None:
    said = make_demo(tmp_path, "PYTHON=no-such-python")
    [line] = said.splitlines()
    assert "pgweir: there is no no-such-python: install Python 3.11 or newer" in line


@needs_make
def test_make_that_cannot_build_leaves_no_environment(tmp_path: Path) -> None:
    make_demo(tmp_path, f"PYTHON={sys.executable}", CC="no-such-compiler")
    assert not (tmp_path / "venv").exists()


def test_the_build_without_a_compiler_ends_without_a_traceback(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=tree,
        env={"PATH": "", "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr.split("\n\n")) == (
        1,
        [
            "\npgweir: no C compiler found (tried 'no-such-compiler'): "
            "on Debian, apt-get install gcc.",
            "",
        ],
    )


def test_pip_without_a_compiler_shows_our_line_and_no_traceback(tree: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*pip, "--wheel-dir", str(tree / "dist"), str(tree)],
        env={"PATH": "/nonexistent", "CC": "no-such-compiler"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    said = (done.returncode, "pgweir: no C compiler found" in done.stdout)
    assert (*said, "Traceback" in done.stdout) == (1, True, False), done.stdout


def test_a_compiler_other_than_pythons_own_will_do(tmp_path: Path) -> None:
    (tmp_path / "cc").symlink_to(shutil.which("true") or "/bin/true")
    done = subprocess.run(
        [sys.executable, "-c", "import machine; print(machine.find_compiler())"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "cc\n"


def test_an_old_python_is_told_which_one_is_needed() -> None:
    said = ask("import sys; sys.version_info = (3, 9, 2); sys.version = '3.9.2 (main)'")
    assert said.startswith("Python 3.11 or newer is needed, and ")
    assert " is 3.9.2: install one and name it, as in `make PYTHON=python3.12`.\n" in said


def test_an_old_python_can_read_the_question() -> None:
    ast.parse((ROOT / "machine.py").read_text("utf-8"), feature_version=(3, 6))


def test_python_without_venv_is_told_the_package() -> None:
    said = ask("import sys; sys.modules['ensurepip'] = None")
    assert said == "Python's venv module is missing: on Debian, apt-get install python3-venv.\n"


def what_headers_lack(compiler: str, include: Path) -> str:
    script = "import sys, machine; from pathlib import Path\n"
    script += "print(machine.what_headers_lack(sys.argv[1], Path(sys.argv[2])))"
    done = subprocess.run(
        [sys.executable, "-c", script, compiler, str(include)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_missing_headers_of_python_are_named(tmp_path: Path) -> None:
    said = what_headers_lack("cc", tmp_path)
    assert said == f"{tmp_path}/Python.h is missing: on Debian, apt-get install python3-dev.\n"


def test_missing_headers_of_c_are_told_in_the_compilers_words(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\ncat > /dev/null\necho 'stdio.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    said = what_headers_lack(str(compiler), tmp_path)
    assert said == (
        f"{compiler} cannot use Python's headers (stdio.h: No such file): on Debian, "
        "apt-get install libc6-dev.\n"
    )
